"""`python -m selfheal_edge`."""

import sys

from selfheal_edge.cli import main

sys.exit(main())
