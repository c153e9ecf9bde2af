"""What a recording means: attempts, causes, the health window, advice, the verdict. Pure.

What is analysed are a run's files: no room here needs a lab, a kernel or a clock, so that a result can be
explained again, on another machine, years later (`l4lab explain`).
"""
