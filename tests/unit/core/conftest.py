"""Property tests draw the same examples on every run, so that a failure on CI is a failure at home.

`--hypothesis-profile=search` draws new ones, and more of them.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", derandomize=True, database=None, deadline=None, max_examples=60, print_blob=False
)
settings.register_profile(
    "search",
    derandomize=False,
    deadline=None,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")
