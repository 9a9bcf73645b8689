"""Does anybody look at flows?

mitmproxy's own addons have hooks whether or not they are wanted: each counts when its option makes
it act. Any other addon with a hook for HTTP counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from llamakey_addon.view.dispatch import handlers

if TYPE_CHECKING:
    from mitmproxy.options import Options

#: In the order in which they are called.
HOOKS: Final = ("requestheaders", "request", "responseheaders", "response", "error")
SOCKET_HOOKS: Final = ("websocket_start", "websocket_message", "websocket_end")


def _option(name: str) -> Callable[[Any, Options], bool]:
    return lambda _, options: bool(getattr(options, name, None))


def _never(_: Any, __: Options) -> bool:
    return False


def _replays_answers(addon: Any, options: Options) -> bool:
    return bool(getattr(addon, "flowmap", None) or getattr(options, "server_replay", None))


#: Class of mitmproxy's → whether it acts.
_OWN: Final[dict[str, Callable[[Any, Options], bool]]] = {
    "anticache.AntiCache": _option("anticache"),
    "anticomp.AntiComp": _option("anticomp"),
    "blocklist.BlockList": _option("block_list"),
    "disable_h2c.DisableH2C": _never,  # takes an Upgrade out that the road does not carry
    "dumper.Dumper": _option("flow_detail"),
    "maplocal.MapLocal": _option("map_local"),
    "mapremote.MapRemote": _option("map_remote"),
    "modifybody.ModifyBody": _option("modify_body"),
    "modifyheaders.ModifyHeaders": _option("modify_headers"),
    "onboarding.Onboarding": _option("onboarding"),
    "proxyauth.ProxyAuth": _option("proxyauth"),
    "save.Save": _option("save_stream_file"),
    "savehar.SaveHar": _option("hardump"),
    "serverplayback.ServerPlayback": _replays_answers,
    "stickyauth.StickyAuth": _option("stickyauth"),
    "stickycookie.StickyCookie": _option("stickycookie"),
    "tlsconfig.TlsConfig": _never,  # serves its list of revoked certificates
    "update_alt_svc.UpdateAltSvc": _never,  # edits answers, which are shown alone
    "upstream_auth.UpstreamAuth": _option("upstream_auth"),
}
_HOME: Final = "mitmproxy.addons."


def anybody(addons: Iterable[Any], options: Options) -> bool:
    """Whether one of `addons` (all of them, also those inside others) looks at flows."""
    return any(_looks(addon, options) for addon in addons)


def _looks(addon: Any, options: Options) -> bool:
    if not any(handlers(addon, (*HOOKS, *SOCKET_HOOKS))):
        return False
    kind = type(addon)
    if not kind.__module__.startswith(_HOME):
        return True
    acts = _OWN.get(f"{kind.__module__.removeprefix(_HOME)}.{kind.__qualname__}")
    return acts is None or acts(addon, options)
