"""A second, naive reading of SPEC: slow, plain, and kept apart from the code that it checks.

Nothing here may import ``streams`` (a test holds that). ``wire`` reads single events, ``naive`` turns whole
inputs into the views of SPEC §9, ``events`` makes small nasty inputs.
"""
