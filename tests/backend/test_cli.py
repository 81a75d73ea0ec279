"""The command itself, before any of its subcommands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest

from backend import cli
from tests.limits import RUN_S, WAIT_S


@pytest.mark.parametrize("arguments", [[], ["serve"], ["annotate", "a.jpg"], ["--help"]], ids=str)
def test_on_windows_one_line_says_what_is_supported(arguments: list[str]) -> None:
    program = "import backend.cli, sys; sys.platform = 'win32'; backend.cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert "WSL 2" in line
    assert "docs/docker.md" in line
    assert "Windows 上运行" in line


def test_it_says_which_version_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prelabel", "--version"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == f"prelabel {version('prelabel')}\n"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_number_of_a_closed_stream_is_left_to_no_other_file(number: int) -> None:
    told = 2 if number == 1 else 1
    program = (
        f"import os, sys; os.close({number}); from backend import cli; sys.argv = ['prelabel', '--version']\n"
        "try: cli.main()\n"
        f"finally: os.write({told}, os.readlink('/proc/self/fd/{number}').encode())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (ended.stdout + ended.stderr).endswith("/dev/null")
    assert ended.returncode == 0


def test_an_engine_that_cannot_be_killed_is_left_and_the_exit_code_said() -> None:
    """As in a driver that hangs; here it only does not heed the signal that Python sends before it waits for ever."""
    program = (
        "import multiprocessing, signal, sys, time\n"
        "from backend import cli\n"
        "from backend.engine.child import leave\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"    stuck = multiprocessing.get_context('fork').Process(target=time.sleep, args=({RUN_S},), daemon=True)\n"
        "    stuck.start()\n"
        "    leave(stuck)\n"
        "    print(stuck.pid, flush=True)\n"
        "    sys.argv = ['prelabel', 'doctor', '--fix']\n"
        "    cli.main()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        stuck = int(running.stdout.readline())
        try:
            assert running.wait(RUN_S / 2) == 2
        finally:
            running.kill()
            os.kill(stuck, signal.SIGKILL)
        assert "--fix rewrites a label config" in running.stderr.read()
