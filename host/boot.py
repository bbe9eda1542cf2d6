"""Where the interpreter of the `igaki` command starts: of site-packages it sees the one that holds this package."""

import gc
import sys

gc.disable()  # nothing on the way to a running container makes cycles worth the time of looking for them
sys.path.append(__file__.removesuffix("/igaki/host/boot.py"))

from igaki.signals import end_quietly  # noqa: E402  igaki is on the path only now

end_quietly()

from igaki.host.cli import main  # noqa: E402

main()
