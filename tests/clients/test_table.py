"""The README's table of providers."""

from __future__ import annotations

from llamakey_addon import catalogue
from llamakey_addon.clients import providers_table

ENTRIES = catalogue.load().entries


def test_a_row_for_each_provider() -> None:
    rows = providers_table(ENTRIES.values()).splitlines()
    assert len(rows) == len(ENTRIES) + 2
    assert all(row.startswith(("| ", "|-")) for row in rows)
    assert {row.count("|") for row in rows} == {5}


def test_rows() -> None:
    table = providers_table(ENTRIES.values())
    assert (
        "| [Anthropic](https://docs.anthropic.com/en/api/overview) | `/anthropic` "
        "| `ANTHROPIC_API_KEY` | `ANTHROPIC_BASE_URL`, `ANTHROPIC_API_KEY` |" in table
    )
    entra = "`AZURE_TENANT_ID` + `AZURE_CLIENT_ID` + `AZURE_CLIENT_SECRET`"
    assert f"| `AZURE_OPENAI_API_KEY` or {entra}, `AZURE_OPENAI_RESOURCE` |" in table
    assert "or `AWS_ACCESS_KEY_ID` or `AWS_PROFILE`, `AWS_REGION` |" in table
    assert "`OLLAMA_API_KEY` (optional)" in table
    assert "in code: mistralai (python)" in table
    assert "`lmk env --for jina`" in table
