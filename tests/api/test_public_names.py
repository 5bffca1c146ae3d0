"""Every public name has an example, and the examples give what they show."""

import doctest
import sys
from importlib import import_module

import pytest

import kd

NAMES = sorted(set(kd.__all__) - {"__version__"})


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example_that_works(name):
    found = getattr(kd, name)
    module = sys.modules[getattr(found, "__module__", found.__name__)]
    tests = doctest.DocTestFinder().find(found, name, module, vars(module).copy())
    assert sum(len(test.examples) for test in tests) > 0
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", ["kd", "kd.deploy.student"])
def test_examples_of_modules(name):
    assert doctest.testmod(import_module(name)).failed == 0
