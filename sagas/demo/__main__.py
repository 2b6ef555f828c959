"""``python -m sagas.demo``."""

import sys

from sagas.demo.guide import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
