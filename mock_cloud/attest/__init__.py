# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence to verdict: known-good sets, policies, and the one place that trusts a node.

Pure: no I/O, no clock, no SSH. Callers pass bytes and get a proof or a refusal.
"""

from mock_cloud.attest.accounts import Accounts, parse_accounts
from mock_cloud.attest.bake import BakeChoices, make_manifest
from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.envelope import Signer
from mock_cloud.attest.evidence import Evidence, EvidenceError, parse_evidence
from mock_cloud.attest.expectations import Invocation, MountRule, ProgramRule, SocketRule
from mock_cloud.attest.kernel import KernelFacts, parse_kernel
from mock_cloud.attest.manifest import SAME_AS_CONTROLLER, ImageManifest
from mock_cloud.attest.packages import HeaderCache, Package, verify_package
from mock_cloud.attest.policy import Policy, standard, strict
from mock_cloud.attest.validity import (
    Acceptance,
    SignedManifest,
    Validity,
    accept_manifest,
    sign_manifest,
    verify_manifest,
)
from mock_cloud.attest.verdict import NodeRefused, Verdict, reason_text
from mock_cloud.attest.verify import Binding, verify
from mock_cloud.attest.volatile import VolatileKind, VolatileRule
from mock_cloud.signed.keys import PackageKeys

__all__ = [
    "SAME_AS_CONTROLLER",
    "Acceptance",
    "Accounts",
    "BakeChoices",
    "Binding",
    "Evidence",
    "EvidenceError",
    "HeaderCache",
    "ImageManifest",
    "InjectedFile",
    "Invocation",
    "KernelFacts",
    "MountRule",
    "NodeRefused",
    "Package",
    "PackageKeys",
    "Policy",
    "ProgramRule",
    "SignedManifest",
    "Signer",
    "SocketRule",
    "Validity",
    "Verdict",
    "VolatileKind",
    "VolatileRule",
    "accept_manifest",
    "make_manifest",
    "parse_accounts",
    "parse_evidence",
    "parse_kernel",
    "reason_text",
    "sign_manifest",
    "standard",
    "strict",
    "verify",
    "verify_manifest",
    "verify_package",
]
