"""What machine this is, in a few words that name nobody."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import urllib.parse
from pathlib import Path


def text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def field(path: str, name: str) -> str:
    """The first `name : value` of a file of the kernel."""
    for line in text(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def filesystem(folder: Path) -> str:
    """The file system that holds a folder, and the kernel's name of its device."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            name = (Path("/sys/dev/block") / number).resolve().name
            return after.split()[0] + ("" if name == number else f" on {name}")
    return ""


def describe(folder: Path) -> dict:
    """The machine, with the disk that holds `folder`."""
    memory = field("/proc/meminfo", "MemTotal").split()
    return {
        "cores": os.cpu_count(),
        "cpu": field("/proc/cpuinfo", "model name"),
        "memory_gb": round(int(memory[0]) / 2**20, 1) if memory else 0,
        "disk": filesystem(folder),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def services(urls: dict[str, str]) -> dict[str, str]:
    """The versions of the servers that peers keep their work in, as far as they tell."""
    return {name: version for name, ask in (("postgres", postgres), ("redis", redis)) if (version := ask(urls[name]))}


def postgres(url: str) -> str:
    return psql(url, "show server_version")


def settings(url: str) -> dict[str, str]:
    """What decides about the speed of PostgreSQL, as the server says."""
    names = ("synchronous_commit", "fsync", "full_page_writes", "wal_compression", "shared_buffers", "max_wal_size")
    asked = psql(url, "select " + ", ".join(f"current_setting('{name}')" for name in names))
    return dict(zip(names, asked.split("|"))) if asked else {}


def psql(url: str, sql: str) -> str:
    """One row, asked with psql, for the standard library does not speak to PostgreSQL; empty where it cannot be asked."""
    command = ["psql", "-XAtc", sql, url.rsplit("/", 1)[0] + "/postgres"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def redis(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=3) as connection:
            connection.sendall(b"INFO server\r\n")
            said = connection.recv(4096).decode(errors="replace")
    except OSError:
        return ""
    return next((line.split(":", 1)[1] for line in said.splitlines() if line.startswith("redis_version:")), "")


def commit(root: Path) -> str:
    """The commit that is measured, `-dirty` if there is more than it says; empty where there is no git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
