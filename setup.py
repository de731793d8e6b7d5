"""Builds the console's CPU extension; everything else about the package is in pyproject.toml.

An installation from source compiles for the processor at hand. With EIGHTBIT_PORTABLE=1 a wheel
runs on every x86-64-v2 machine: it holds the console three times, and the best one that the
processor can run is chosen when it is imported. Without a C++17 compiler the installation goes on
without the extension, and games are played by ALE.
"""

import os
import platform
import sys

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

CONSOLE = "envs/console"
X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")


def extension(name: str, target: list[str]) -> Extension:
    if sys.platform == "win32":
        flags = ["/std:c++17", "/O2", "/EHsc", "/fp:precise"]
    else:
        # Pictures equal ALE's to the last bit: no fused multiply-add; integers may wrap.
        flags = ["-std=c++17", "-O2", "-fwrapv", "-ffp-contract=off", "-fvisibility=hidden"]
        flags += ["-pthread", "-g0", *target]
    headers = sorted(f"{CONSOLE}/{file}" for file in os.listdir(CONSOLE) if file.endswith(".h"))
    return Extension(
        f"eightbit.envs.console.{name}",
        [f"{CONSOLE}/extension.cpp"],
        include_dirs=[pybind11.get_include(), CONSOLE],
        depends=headers,
        define_macros=[("CONSOLE_MODULE", name)],
        extra_compile_args=flags,
        extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
        language="c++",
        optional=True,
    )


def extensions() -> list[Extension]:
    if os.environ.get("EIGHTBIT_PORTABLE") != "1":
        return [extension("_console", [] if sys.platform == "win32" else ["-march=native"])]
    if not X86 or sys.platform == "win32":
        return [extension("_console", [])]
    return [extension(f"_console_{level[-2:]}", [f"-march={level}"]) for level in LEVELS]


class BuildPy(build_py):
    """Leaves this file out of the package, whose folder is the repository's root."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        return [(name, module, path) for name, module, path in found if module != "setup"]


setup(ext_modules=extensions(), cmdclass={"build_py": BuildPy})
