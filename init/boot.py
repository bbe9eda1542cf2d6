"""Where the fresh interpreter starts: `boot.py PYTHON EXTRA_FDS DIE_WITH_THREAD PATH…`, from the script `entry`."""

import gc
import sys

gc.disable()  # nothing here makes cycles worth the time of looking for them
sys.path += sys.argv[4:]

from igaki.lite import load_msgspec  # noqa: E402  igaki is on the path only now

load_msgspec()

from igaki.init.stages import main  # noqa: E402

main(int(sys.argv[2]), die_with_thread=sys.argv[3] == "1")
