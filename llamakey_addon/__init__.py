"""LlamaKey: a proxy that holds a team's real LLM keys, as an addon of mitmproxy."""

__version__ = "0.2.0"
