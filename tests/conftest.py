"""Before torch is imported anywhere."""

import os

# The models of the tests are tiny: with a thread per core they wait for each other five times longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
