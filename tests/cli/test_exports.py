"""Providers' usage exports are known by the names of their columns."""

from __future__ import annotations

from decimal import Decimal

import pytest

from llamakey_addon.cli.exports import BadExport, read

OPENAI_USAGE = """\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,\
model,batch,service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens
1782864000,1782950400,2026-07-01T00:00:00+00:00,2026-07-02T00:00:00+00:00,,,,,,,,,,,
1782950400,1783036800,2026-07-02T00:00:00+00:00,2026-07-03T00:00:00+00:00,proj_1,3,,,\
gpt-5-mini-2025-08-07,false,default,1000,200,400,600
1782950400,1783036800,2026-07-02T00:00:00+00:00,2026-07-03T00:00:00+00:00,proj_2,1,,,\
gpt-5-mini-2025-08-07,true,default,10,1,0,10
"""
OPENAI_COST = """\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,\
quantity_unit,line_item,project_id
1782864000,1782950400,2026-07-01T00:00:00,2026-07-02T00:00:00,,,,,,
1782950400,1783036800,2026-07-02T00:00:00,2026-07-03T00:00:00,\
0.003835980000000000000000000000,usd,1000,tokens,"gpt-5-mini-2025-08-07, input",proj_1
1782950400,1783036800,2026-07-02T00:00:00,2026-07-03T00:00:00,\
0.5,usd,10,tokens,"gpt-5-mini-2025-08-07, output",proj_1
"""
CLAUDE_USAGE = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,\
usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,\
usage_input_tokens_cache_read,usage_output_tokens,web_search_count,inference_geo,speed
2026-07-01,claude-haiku-4-5-20251001,team,Default,standard,≤ 200k,100,20,3,4000,50,0,us,
2026-07-01 15:00,claude-haiku-4-5-20251001,team,Default,standard,≤ 200k,1,0,0,0,1,0,us,
"""
CLAUDE_COST = """\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,\
list_price_usd,cost_type,inference_geo
2026-07-01,Claude Haiku 4.5,Default,team,message,≤ 200k,input_no_cache,0.05,0.05,token,us
2026-07-02,Claude Haiku 4.5,Default,team,message,≤ 200k,output,"1,234.5",0.02,token,us
"""


@pytest.fixture
def export(tmp_path):
    def make(text: str | bytes):
        path = tmp_path / "usage.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read(path)

    return make


def booked(export) -> dict[tuple[str, str], tuple[int, object]]:
    return {key: (each.tokens, each.usd) for key, each in export.booked.items()}


def test_openais_usage_counts_cached_tokens_once(export):
    found = export(OPENAI_USAGE)
    assert booked(found) == {("2026-07-02", "gpt-5-mini-2025-08-07"): (1211, 0)}
    assert (found.provider, found.has_tokens, found.has_cost) == ("openai", True, False)
    assert (str(found.first), str(found.last)) == ("2026-07-01", "2026-07-02")


def test_openais_costs_have_the_model_in_the_line_item(export):
    found = export(OPENAI_COST)
    assert booked(found) == {
        ("2026-07-02", "gpt-5-mini-2025-08-07"): (0, Decimal("0.50383598")),
    }
    assert (found.provider, found.has_tokens, found.has_cost) == ("openai", False, True)
    assert found.booked["2026-07-02", "gpt-5-mini-2025-08-07"].nusd == 503_835_980


def test_the_claude_consoles_usage_adds_up_its_kinds_of_input(export):
    found = export(CLAUDE_USAGE)
    assert booked(found) == {("2026-07-01", "claude-haiku-4-5-20251001"): (4175, 0)}
    assert (found.provider, found.has_tokens, found.has_cost) == ("anthropic", True, False)


def test_the_claude_consoles_costs(export):
    found = export(CLAUDE_COST)
    assert booked(found) == {
        ("2026-07-01", "Claude Haiku 4.5"): (0, Decimal("0.05")),
        ("2026-07-02", "Claude Haiku 4.5"): (0, Decimal("1234.5")),
    }
    assert (found.provider, found.has_tokens, found.has_cost) == ("anthropic", False, True)


@pytest.mark.parametrize(
    "text",
    [
        "date,model,tokens,cost\n2026-07-01,m,30,0.5\n",
        "Date;Model;Total Tokens;Cost (USD)\r\n2026-07-01;m;30;0.5\r\n\r\n",
        "\ufeffday\tmodel\tprompt_tokens\tcompletion_tokens\tamount\n2026-07-01\tm\t10\t20\t$0.5\n",
        "timestamp,model_id,input_tokens,output_tokens,cost\n1782864000,m,10,20,5e-1\n",
        "timestamp,snapshot_id,n_context_tokens_total,n_generated_tokens_total,cost\n"
        "1782864000000,m,10,20,0.5\n",
        "cost,date,model,tokens\n0.5,2026-07-02T01:00:00+02:00,m,30\n",
    ],
)
def test_other_exports_of_day_model_tokens_and_cost(export, text):
    found = export(text)
    assert booked(found) == {("2026-07-01", "m"): (30, Decimal("0.5"))}
    assert found.provider == "" or "snapshot_id" in text


def test_an_export_of_a_windows_program(export):
    text = "date,model,tokens\n2026-07-01,m,30\n"
    assert booked(export(text.encode("utf-16"))) == {("2026-07-01", "m"): (30, 0)}


def test_an_export_without_models(export):
    found = export("date,cost\n2026-07-01,0.5\n2026-07-01,0.25\n")
    assert booked(found) == {("2026-07-01", ""): (0, Decimal("0.75"))}
    assert not found.has_models


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing stands there"),
        ("date,model,tokens\n", "there is a header and no row"),
        ("when,what\n1,2\n", "usage.csv:1: no column holds a day (date, usage_date_utc"),
        ("when,what\n1,2\n", "It has: when, what."),
        ("date,model\n2026-07-01,m\n", "no column holds tokens (input_tokens"),
        ("date,tokens\n2026-07-01,30\nJuly,1\n", "usage.csv:3: date: 'July' is no day"),
        ("date,tokens\n2026-07-01,12x\n", "usage.csv:2: tokens: '12x' is no number"),
        ("date,tokens\n2026-07-01,NaN\n", "'NaN' is no number"),
        ("date,tokens\n2026-07-01,1e999999\n", "is no number"),
        ('date,model,tokens\n2026-07-01,"m\nn",1\n2026-07-01,m,x\n', "usage.csv:4: tokens"),
        ("date,tokens\n2026-07-01,1,2\n", "usage.csv:2: 3 values under 2 columns"),
        ('date,tokens\n2026-07-01,"1\n', "usage.csv:2: unexpected end of data"),
        ("date,cost,currency\n2026-07-01,5,eur\n", "usage.csv:2: the cost is in EUR"),
        (b"date,tokens\n2026-07-01,\xff\n", "no text in UTF-8"),
    ],
)
def test_what_is_no_export_is_told_with_its_line(export, text, said):
    with pytest.raises(BadExport) as caught:
        export(text)
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadExport, match="No such file"):
        read(tmp_path / "usage.csv")
