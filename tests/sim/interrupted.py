"""A command that is interrupted when it says something, as Ctrl-C would."""

import json
import signal
import subprocess
import time


def interrupted(command, when, *, after_s=0.0):
    """Run ``command``, which prints JSON lines; SIGINT once ``when(line)`` is true.

    Returns:
        Its exit code, and what it said on stderr.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stdout:
            if when(json.loads(line)):
                break
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    return process.returncode, said
