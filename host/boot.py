"""Where the `igaki` command's interpreter starts, without site-packages: the one that holds this package is added here."""

import gc
import sys

gc.disable()  # nothing on the way to a running container makes cycles worth the time of looking for them
sys.path.append(__file__.removesuffix("/igaki/host/boot.py"))

from igaki.host.cli import main  # noqa: E402  igaki is on the path only now

main()
