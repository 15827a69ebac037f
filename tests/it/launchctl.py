#!/usr/bin/env python3
"""Stands in for macOS's launchctl, and for the launchd behind it, in tests of what talks to them.

    launchctl bootstrap gui/UID PLIST    bind the socket, start the program when somebody connects
    launchctl bootout gui/UID/LABEL      SIGTERM to the program; the socket's file stays
    launchctl print gui/UID/LABEL        is it loaded?

Socket and program are those of the property list. The socket is handed over by systemd's protocol,
since launch_activate_socket(3) is macOS's. What is loaded holds the lock of ~/launchd/LABEL.
"""

import fcntl
import os
import plistlib
import select
import signal
import socket
import sys

STATE = os.path.expanduser("~/launchd")


def fail(what, number, why):
    print(f"{what} failed: {number}: {why}", file=sys.stderr)
    sys.exit(number)


def is_loaded(state):
    """Whether another process holds the lock of this file."""
    try:
        with open(state) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def bootstrap(path):
    with open(path, "rb") as file:
        job = plistlib.load(file)
    label = job["Label"]
    assert os.path.basename(path) == label + ".plist", path
    state = os.path.join(STATE, label)
    if is_loaded(state):
        fail("Bootstrap", 37, "Operation already in progress")
    listener = job["Sockets"]["Listeners"]
    address = listener["SockPathName"]
    lent = socket.socket(socket.AF_UNIX)
    try:
        if os.path.exists(address):
            os.unlink(address)
        lent.bind(address)
    except OSError:
        fail("Bootstrap", 5, "Input/output error")
    os.chmod(address, listener["SockPathMode"])
    lent.listen(128)
    os.makedirs(STATE, exist_ok=True)
    lock = open(state, "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    if os.fork() == 0:
        os.setsid()
        lock.write(str(os.getpid()))
        lock.flush()
        serve(job, lent, lock)


def serve(job, lent, lock):
    """What launchd does with a job that is loaded."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    child = None

    def end(*_):
        lock.close()
        if child is not None:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        select.select([lent], [], [])
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                start(job, lent)
            finally:
                os._exit(70)
        os.waitpid(child, 0)
        child = None


def start(job, lent):
    os.umask(job["Umask"])
    if "StandardErrorPath" in job:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(job["StandardErrorPath"], flags, 0o600), 2)
    os.dup2(lent.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(job["ProgramArguments"][0], job["ProgramArguments"])


def bootout(state):
    if not is_loaded(state):
        fail("Boot-out", 3, "No such process")
    with open(state) as file:
        pid = int(file.read())
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            drains = children.read().strip() != ""
        os.kill(pid, signal.SIGTERM)
        fcntl.flock(file, fcntl.LOCK_SH)
    if drains:
        fail("Boot-out", 36, "Operation now in progress")


def main():
    command, target, *rest = sys.argv[1:]
    domain = f"gui/{os.getuid()}"
    if command == "bootstrap":
        assert target == domain, target
        return bootstrap(*rest)
    there, label = target.rsplit("/", 1)
    assert there == domain, target
    state = os.path.join(STATE, label)
    if command == "bootout":
        bootout(state)
    elif command == "print":
        if not is_loaded(state):
            fail("Print", 113, "Could not find service")
    else:
        fail("Usage", 64, command)


main()
