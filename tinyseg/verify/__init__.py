"""The kit for people who write kernels: strategies, properties, and the smallest geometry on which one fails.

    tinyseg verify my_kernel.py:conv                     # on the command line

    from tinyseg.verify import kernel_tests             # in your own tests
    from my_kernel import conv
    test_conv = kernel_tests(conv, op="conv2d")

Needs hypothesis: pip install "tinyseg[verify]".
"""

from tinyseg.arithmetic import ConvGeometry, PoolGeometry
from tinyseg.verify.cases import Case
from tinyseg.verify.operations import OPERATIONS, Operation
from tinyseg.verify.properties import PROPERTIES, Property
from tinyseg.verify.runner import Budget, Outcome, examine
from tinyseg.verify.session import Report, verify
from tinyseg.verify.subject import Request, Subject
from tinyseg.verify.testing import check, kernel_tests
from tinyseg.verify.violation import Violation

__all__ = ["OPERATIONS", "PROPERTIES", "Budget", "Case", "ConvGeometry", "Operation", "Outcome", "PoolGeometry",
           "Property", "Report", "Request", "Subject", "Violation", "check", "examine", "kernel_tests", "verify"]
