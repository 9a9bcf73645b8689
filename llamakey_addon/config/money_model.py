"""The shape of config.yaml where it is about money and what is counted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llamakey_addon.config.part import Part

type Rate = Annotated[float, Field(gt=0, le=10**6, allow_inf_nan=False)]
type Usd = Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)]


class MoneyPart(Part):
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """Currency of budgets and reports, three capital letters. Prices are always in US dollars."""
    per_usd: Rate = 1.0
    """How many units of that currency a US dollar is: a fixed rate."""
    time_zone: str = "UTC"
    """Where a day begins, for budgets, reports and the ends of keys, e.g. `Europe/Berlin`."""


class PricePart(Part):
    """What a model costs, in US dollars, before the price table that comes along. The first entry
    that fits counts; what it leaves out costs nothing."""

    provider: str
    """Id of a provider, or `"*"`."""
    model: str = "*"
    """Name of a model, in which `*` stands for anything."""
    free: bool = False
    """It costs nothing, also where a budget wants to know a price."""
    input_mtok: Usd | None = None
    """A million tokens in."""
    output_mtok: Usd | None = None
    """A million tokens out."""
    cache_read_mtok: Usd | None = None
    """A million tokens read from the provider's cache. Default: as `input_mtok`."""
    cache_write_mtok: Usd | None = None
    """A million tokens written to it. Default: as `input_mtok`."""
    cache_write_1h_mtok: Usd | None = None
    """The same, kept for an hour. Default: as `cache_write_mtok`."""
    input_audio_mtok: Usd | None = None
    """A million tokens of audio in. Default: as `input_mtok`."""
    output_audio_mtok: Usd | None = None
    """A million tokens of audio out. Default: as `output_mtok`."""
    cache_audio_read_mtok: Usd | None = None
    """A million tokens of audio read from the cache. Default: as `cache_read_mtok`."""
    input_image_mtok: Usd | None = None
    """A million tokens of images in. Default: as `input_mtok`."""
    output_image_mtok: Usd | None = None
    """A million tokens of images out. Default: as `output_mtok`."""
    input_video_mtok: Usd | None = None
    """A million tokens of video in. Default: as `input_mtok`."""
    output_reasoning_mtok: Usd | None = None
    """A million tokens of reasoning. Default: as `output_mtok`."""
    character_mtok: Usd | None = None
    """A million characters, as speech is billed."""
    audio_hour: Usd | None = None
    """An hour of audio."""
    compute_hour: Usd | None = None
    """An hour of compute."""
    request: Usd | None = None
    """A request."""
    image: Usd | None = None
    """An image that is made."""
    video: Usd | None = None
    """A video that is made."""
    video_second: Usd | None = None
    """A second of it."""
    page: Usd | None = None
    """A page read by OCR."""
    search: Usd | None = None
    """A unit of reranking."""
    classification: Usd | None = None
    """A text that is classified."""
    web_search: Usd | None = None
    """A search in the web."""


class MeteringPart(Part):
    cut_streams: bool = True
    """End a streaming answer once it has used up a hard budget."""
    show_left: bool = False
    """Tell clients in headers of the answer what is left of their limits and budgets."""
    tag_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")] = "X-LlamaKey-Tag"
    """Header with a tag of the client's choice for its requests, beside the session ids of coding
    agents. It is not sent on."""
