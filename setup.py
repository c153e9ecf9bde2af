"""The module in C; everything else is in pyproject.toml, whose word for this is still experimental."""

from setuptools import Extension, setup

_WARNINGS = ["-std=gnu11", "-Wall", "-Wextra"]

setup(ext_modules=[Extension("lb.linux.batch", ["lb/linux/batch.c"], extra_compile_args=_WARNINGS)])
