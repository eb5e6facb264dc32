# SPDX-License-Identifier: Apache-2.0
"""Tests of the kvm engine, for a machine where /dev/kvm works: tests/lab/run brings them there.

The command line in a home of its own, the images and the fixtures are those of tests/func.
"""
import importlib.util
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import kvm  # noqa: E402


def load_func():
    """tests/func/conftest.py under another name, because this file has that one."""
    path = os.path.join(os.path.dirname(HERE), "func", "conftest.py")
    spec = importlib.util.spec_from_file_location("func_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


func = load_func()
images, home, shared_home = func.images, func.home, func.shared_home
alive, wait_for, BUILD, REPO = func.alive, func.wait_for, func.BUILD, func.REPO


def pytest_addoption(parser):
    parser.addoption("--engine", default="kvm", help="kvm (default) or qemu: what sandboxes run in")


def pytest_configure(config):
    # Through the settings file, so that every command and tools/demo follow.
    func.ENGINE = config.getoption("--engine")


def pytest_collection_modifyitems(config, items):
    why = kvm.unusable()
    if why:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why + "; use tests/lab/run"))


def pytest_runtest_logreport(report):
    """What has ended, for the runner: the machine may not live to see the end of the list."""
    path = os.environ.get("HUTCH_LAB_DONE")
    if path and (report.when == "call" or report.outcome != "passed"):
        with open(path, "a") as f:
            f.write("%s %s\n" % (report.outcome, report.nodeid))


@pytest.fixture(scope="session")
def engine(request):
    return request.config.getoption("--engine")


@pytest.fixture
def programs(engine):
    """The processes of one running sandbox."""
    workers = {"hutch-box", "hutch-vmm", "hutch-gate"}
    return workers | {"qemu"} if engine == "qemu" else workers


@pytest.fixture
def work(home):
    path = home.path("work")
    os.makedirs(path)
    return path
