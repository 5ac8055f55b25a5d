"""The command line."""

import sys

from benchmarks.fault_drills.table import main

sys.exit(main())
