"""`python -m selfheal_edge.cli`."""

import sys

from selfheal_edge.cli import main

sys.exit(main())
