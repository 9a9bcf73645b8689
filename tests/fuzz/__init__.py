"""A seeded fuzzer of requests and of providers' answers: `python -m tests.fuzz --seconds 600`.

generators.py   what is asked, what a provider answers, and what must come of it
provider.py     the provider: reads by h11, checks what came, answers by plan
runner.py       connections of clients against a live proxy, and the verdict
"""
