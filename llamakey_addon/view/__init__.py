"""Flows as a view of the road: what mitmweb, the console, `-w`, HAR and foreign addons see."""
