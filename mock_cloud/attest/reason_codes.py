# SPDX-License-Identifier: GPL-2.0-or-later
"""Every code that a refusal can have: what was seen, what that may mean, what to do.

`mock-cloud attest --explain CODE` prints an entry; `make codes` writes them to
docs/troubleshooting.md and docs/verify.md. A test holds both, and this table, to the code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """A code, of a section; `also` are the codes that mean the same and are answered alike."""

    code: str
    section: str
    seen: str
    means: str
    do: str
    also: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The page, one fact a line."""
        lines = [
            self.code,
            f"  seen:      {self.seen}",
            f"  may mean:  {self.means}",
            f"  to do:     {self.do}",
        ]
        return "\n".join([*lines, *([f"  see also:  {', '.join(self.also)}"] if self.also else [])])


@dataclass(frozen=True, slots=True)
class _Group:
    """Codes with what was seen; all mean the same, and are answered alike."""

    seen: Mapping[str, str]
    means: str
    do: str


_UPDATE: Final = "make the manifest anew: mock-cloud image bake, mock-cloud known-good make"
_SUSPECT: Final = (
    "take it seriously: keep the evidence (mock-cloud attest NAME --evidence FILE), and use another"
    " node"
)
_AS_BEFORE: Final = "put it back as it was when the manifest was made, or make the manifest anew"
_KEYS: Final = "ask the signer for a newer one: mock-cloud known-good sign FILE --renew, image bake"
_BUG: Final = "report it: no file or option leads here"

_NODES: Final[Mapping[str, tuple[_Group, ...]]] = {
    "The manifest": (
        _Group(
            {"manifest.expired": "the manifest's time is over",
             "manifest.too-old": "it was signed longer ago than manifest_max_age"},
            "nobody renewed it; the image may have known holes since",
            "mock-cloud known-good sign FILE --renew --sign-key KEY, or bake again",
        ),
        _Group(
            {"manifest.rolled-back": "a newer one of this image and signer was accepted here"},
            "an old copy was restored, or somebody offers an image with known holes",
            "use the newer; if the clock was wrong: mock-cloud known-good seen --reset-clock",
        ),
        _Group(
            {"manifest.revoked": "it, its serial or its signer was revoked"},
            "its signer took back what the manifest says, or a signing key was stolen",
            _KEYS,
        ),
        _Group(
            {"manifest.threshold": "fewer keys signed it than manifest_threshold, or the policy's"},
            "somebody has not signed yet; or one who may not decide alone tried to",
            "have others sign: mock-cloud known-good sign FILE --sign-key KEY",
        ),
        _Group(
            {"manifest.signature": "a signature is not what a trusted key signed, or there is none",
             "manifest.malformed": "it is not a manifest, or of another version"},
            "the file was changed or cut off, or is of another version of mock-cloud",
            "get it again from its signer; use the same version on both sides",
        ),
        _Group(
            {"manifest.no-keys": "no key is trusted to sign it"},
            "the remote's file names none",
            "name the signers' public keys in [attest] manifest_keys",
        ),
        _Group(
            {"manifest.arch": "it is of another architecture than the node",
             "kernel.arch": "the node is of another architecture than was asked for"},
            "a wrong image, size or arch in the remote's file",
            "name the right manifest and image in [node.ARCH], or arch of the lent machine",
        ),
        _Group(
            {"base.unverified": "an image or machine without a manifest is to be vouched for"},
            "nothing says yet what it may hold",
            "read the report, then repeat the command with --accept-unverified-base",
        ),
    ),
    "The policy": (
        _Group(
            {"policy.empty": "the policy asks for nothing",
             "policy.incomplete": "it leaves out a check that no policy may leave out"},
            "a bug of the program, since no policy file can say so",
            _BUG,
        ),
        _Group(
            {"policy.program": "a program runs that the policy forbids",
             "policy.module": "a kernel module is loaded that the policy forbids",
             "policy.package": "a package is installed that the policy forbids"},
            "the image has it, and its signer did not mind; the policy's reason says why you do",
            "bake without it; or allow it, with a reason, in a policy file of your own:"
            " mock-cloud policy show",
        ),
        _Group(
            {"policy.agent": "an agent for remote control runs: the cloud's, the hypervisor's"},
            "the image has it, and whoever commands it is root beside your build whenever it is"
            " sent a command",
            "bake without it; or allow it by name, allow_agents in the remote's [attest]: verdict"
            " and provenance then say who could be root there",
        ),
        _Group(
            {"policy.unsigned": "a program or library that the manifest has, and no package"},
            "it was put into the image by hand or by a script; its signer alone vouches for it",
            "package it, or allow unsigned_programs in a policy file of your own",
        ),
        _Group(
            {"policy.labels": "the policy wants SELinux labels compared; the manifest has none"},
            "the manifest was made of a tree, or of a machine without SELinux",
            "make the manifest on the running image, or set the rule labels in a policy file",
        ),
    ),
    "Files": (
        _Group(
            {"file.digest": "the content is not the package's or the manifest's"},
            "many: an update; a single program or library: it was replaced",
            f"of an update: {_UPDATE}. A single one: {_SUSPECT}",
        ),
        _Group(
            {"file.unknown": "a file that no package, no manifest and no rule has"},
            "installed by hand or left by a service; or left to be run later",
            "bake without it, or vouch for it in a new manifest; of data that comes and goes, a"
            " policy file may say that it varies",
        ),
        _Group(
            {"file.missing": "a file that should be there is not"},
            "removed by hand, another image; or a protection was taken away",
            "use the manifest's own image; documentation may be missing by the standard policy",
        ),
        _Group(
            {"file.mode": "other permissions than it should have",
             "file.owner": "another owner or group",
             "file.capabilities": "other file capabilities",
             "file.xattr": "an ACL, or an attribute that changes what it is"},
            "rights that somebody gave, to a program or over it",
            f"rpm -V on a machine of yours shows the same; {_SUSPECT}",
        ),
        _Group(
            {"file.type": "another kind of file", "file.target": "a link leads elsewhere",
             "file.device": "another device"},
            "an alternative was switched; or a name was bent to other code",
            _SUSPECT,
        ),
        _Group(
            {"file.label": "another SELinux label than the manifest says"},
            "not labelled yet, or moved with its old label; or a policy is to be evaded",
            "restorecon on the image, or make the manifest anew",
        ),
        _Group(
            {"file.volatile": "what may vary as data is a program, setuid, for others to write, or"
             " says more than it may"},
            "a service keeps more there than was known; or a place of data is used to stay",
            "look at it on the node; if it belongs there, pin it in a new manifest",
        ),
        _Group(
            {"file.linked": "what may vary as data has a second name (a hard link)"},
            "a log that is also a file which root's programs go by: who is logged writes there",
            "remove the link on the node, and look where the other name is: find / -samefile FILE",
        ),
        _Group(
            {"file.ghost": "a file of a package whose content no package says"},
            "a log or a cache that the package names and does not bring",
            "put it into the manifest, or remove it",
        ),
        _Group(
            {"file.conflict": "two packages say different things of one path",
             "file.account": "a file's owner is not in /etc/passwd or /etc/group"},
            "packages that do not go together, or accounts that were removed",
            "the manifest decides: make it anew",
        ),
        _Group(
            {"file.changed": "it changed while it was measured",
             "file.unreadable": "it could not be read"},
            "a service writes there; a disk error; or something hides it",
            "end the service and try again; if it stays unreadable, use another node",
        ),
        _Group(
            {"layer.digest": "a base layer is not what was recorded after its job",
             "layer.place": "something else than a layer was measured as one"},
            "the node was changed between two builds",
            _SUSPECT,
        ),
    ),
    "Packages": (
        _Group(
            {"package.unsigned": "no key of package_keys signed its header"},
            "a package of another repository, or one that somebody made",
            "name the repository's own key, if you trust it; else bake without the package",
        ),
        _Group(
            {"package.database": "no RPM database, none that can be read, an empty one, or two"},
            "a distribution with Berkeley DB (EL 8 and before); a damaged database; or one that"
            " hides another",
            "rpmdb --rebuilddb on the image; only one of /usr/lib/sysimage/rpm and /var/lib/rpm",
        ),
        _Group(
            {"package.digests": "it is signed, but has MD5 or other digests of its files"},
            "rpm wrote them so before 2009; what it installs can't be told from a forgery",
            "a newer build of the package",
        ),
        _Group(
            {"package.not-allowed": "a package, or a version, that the manifest does not have",
             "package.missing": "a package of the manifest is not installed"},
            "the image was updated, or is another",
            _UPDATE,
        ),
        _Group(
            {"package.old": "an older version than the manifest's, though signed"},
            "an old image; or one with a known hole, installed again",
            "use the manifest's own image, or bake anew",
        ),
        _Group(
            {"package.no-header": "a header was announced and not sent",
             "package.header-digest": "other bytes came than were announced",
             "package.malformed": "it is not an RPM header"},
            "a damaged database, or a lie",
            _SUSPECT,
        ),
    ),
    "Processes, sockets and logins": (
        _Group(
            {"process.unknown": "a program that may not run, or not with these arguments"},
            "a service that the manifest lacks; or somebody's shell",
            "end it, or make the manifest anew; a policy file may allow one with a reason",
        ),
        _Group(
            {"process.executable": "it runs a file that is not known",
             "process.digest": "it runs another file than lies on the disk",
             "process.map": "it has mapped a file that is not known",
             "process.map-digest": "it has mapped another file than lies on the disk"},
            "a program or library of nobody's, or one that was changed under it",
            _SUSPECT,
        ),
        _Group(
            {"process.deleted": "its program is not on the disk any more",
             "process.map-deleted": "a library of it is not on the disk any more"},
            "an update while it ran; or code that was removed to leave no trace",
            "after an update: restart the service or the machine. Otherwise use another node",
        ),
        _Group(
            {"process.memfd": "its program never lay on a disk",
             "process.anonymous-code": "it has executable memory that is no file's"},
            "a just-in-time compiler; or an implant",
            "let the manifest say that this service generates code; any other: use another node",
        ),
        _Group(
            {"process.patched": "its code in memory is not its file's"},
            "a debugger, a live patch of a program; or an implant",
            _SUSPECT,
        ),
        _Group(
            {"process.traced": "a debugger is attached"},
            "somebody looks into it, and can change it",
            "end the debugger",
        ),
        _Group(
            {"process.environment": "a variable that changes what is loaded, as LD_PRELOAD does"},
            "a service's configuration; or a way to bring code into a good program",
            "take it out of the service, and restart that",
        ),
        _Group(
            {"process.root": "it runs in another root",
             "process.namespace": "it runs in namespaces of its own"},
            "a container or a sandboxed service; nothing of what it sees was measured",
            "end it, or let the manifest name the service",
        ),
        _Group(
            {"process.hidden": "it is there, and /proc does not list it",
             "process.kernel-thread": "it says it is the kernel's, and is not",
             "process.none": "no process was seen, not even the agent"},
            "/proc does not tell the truth: a rootkit, or a mount over it",
            _SUSPECT,
        ),
        _Group(
            {"process.owner": "the dead-man timer is another user's",
             "process.parent": "the dead-man timer is another process's child",
             "process.duplicate": "there are two dead-man timers"},
            "a process has the name of mock-cloud's own, and is not as that is",
            "release the node: mock-cloud release",
        ),
        _Group(
            {"socket.unknown": "a program listens that should not, or on another port",
             "socket.unowned": "a port listens, and no process holds it"},
            "a service that the manifest lacks; the kernel's own (nfsd); or what hides",
            "end the service; the manifest of a lent machine has its own",
        ),
        _Group(
            {"connection.unknown": "a connection to the node's sshd that is not ours",
             "connection.unowned": "a connection that no process holds"},
            "somebody else is logging in, or the last command's connection still ends",
            "try again in a minute; then find out who it is",
        ),
        _Group(
            {"login.session": "somebody else is logged in",
             "login.agent": "another controller works there"},
            "its owner, or somebody, is root there while you build",
            "log out; release the node of the other controller",
        ),
        _Group(
            {"login.configuration": "sshd runs by a configuration that it did not read anew",
             "login.witness": "an unknown program ran when sshd read its configuration"},
            "a second sshd; Match exec or AuthorizedKeysCommand; or a way back in that no file has",
            "one sshd, with a configuration that runs nothing; restart it",
        ),
        _Group(
            {"agent.identity": "what answered is not our agent",
             "agent.namespace": "the agent is not where the node's first process is"},
            "the node shows the measurement another machine than it is",
            _SUSPECT,
        ),
    ),
    "Mounts": (
        _Group(
            {"mount.unknown": "something is mounted that should not be",
             "mount.missing": "something is not mounted that should be",
             "mount.type": "another file system",
             "mount.options": "an option that the manifest asks for is missing"},
            "a disk more, a container's mounts; or a file system that lies over good files",
            f"unmount it, or {_AS_BEFORE}",
        ),
        _Group(
            {"mount.bind": "a part of another tree is mounted there",
             "mount.stacked": "one mount lies over another",
             "mount.crossed": "a path led to another file system while it was measured"},
            "what is below is hidden, and was not measured",
            "unmount it; if nobody of yours mounted it, use another node",
        ),
    ),
    "Kernel and machine": (
        _Group(
            {"kernel.module": "a module that the manifest does not have",
             "kernel.bpf": "an eBPF program that it does not have",
             "kernel.kprobe": "a probe that it does not have",
             "kernel.binfmt": "an interpreter of binfmt_misc that it does not have"},
            "a new kernel, driver or hardware; a tracer, qemu-user; an earlier build, or a"
            " package's script, that had the kernel load a file system, a kind of socket or a"
            " cipher; or code put into the kernel",
            f"of a new kernel or driver: {_UPDATE}; a policy file may allow a module",
        ),
        _Group(
            {"kernel.module-hidden": "a module that one of the kernel's two lists lacks",
             "kernel.livepatch": "a live patch is loaded"},
            "code replaces the kernel's, or hides",
            "reboot into the patched kernel; one that hides: use another node",
        ),
        _Group(
            {"kernel.cmdline": "the kernel was started with other options",
             "kernel.core-pattern": "another program gets core dumps",
             "kernel.helper": "the kernel would start another program as root",
             "kernel.release-agent": "the kernel would start a program when a control group ends"},
            "a setting that changed; or a way to be root after everything looked good",
            _AS_BEFORE,
        ),
        _Group(
            {"kernel.tainted": "code that is not the distribution's was loaded"},
            "a proprietary, staging or unsigned module, now or since the boot",
            "reboot without it; strict policies refuse warnings too",
        ),
        _Group(
            {"kernel.broken": "a machine check, a damaged page, an oops"},
            "the hardware or the kernel failed: nothing it remembers is reliable",
            "reboot; if it comes again, the hardware",
        ),
        _Group(
            {"kernel.kexec": "another kernel is loaded for kexec"},
            "kdump; or a kernel that nobody measured is to follow",
            "reboot; switch kdump off",
        ),
        _Group(
            {"kernel.lockdown": "the policy wants lockdown, and it is off",
             "kernel.module-signatures": "the policy wants modules' signatures enforced",
             "kernel.yama": "the policy wants Yama's ptrace_scope 1 or more"},
            "the image does not switch it on: root could change the kernel unseen",
            "lockdown=integrity module.sig_enforce=1 on the kernel's command line;"
            " kernel.yama.ptrace_scope=1 in sysctl.d; or another rule in a policy file",
        ),
        _Group(
            {"kernel.no-reference": "there is nothing to compare the kernel with",
             "kernel.unknown": "its state was not measured"},
            "the manifest was made of a tree; or the agent may not look",
            "make the manifest anew, on the machine itself",
        ),
        _Group(
            {"node.container": "the node is a container"},
            "whoever runs its host changes everything in it, and was not measured",
            "a machine of its own; or unsafe_containers, see mock-cloud-remotes(5)",
        ),
    ),
    "Evidence and toolkit": (
        _Group(
            {"evidence.malformed": "the answer is not evidence of this version",
             "evidence.nonce": "it answers another question",
             "evidence.skip": "it leaves out more than was asked for"},
            "an old answer, or none that our agent gives",
            _SUSPECT,
        ),
        _Group(
            {"toolkit.digest": "a file of the toolkit has another content",
             "toolkit.missing": "a file of it is gone", "toolkit.unknown": "there is one more",
             "toolkit.type": "one is of another kind",
             "toolkit.target": "a link of it leads elsewhere",
             "toolkit.device": "one is another device", "toolkit.mode": "other permissions",
             "toolkit.owner": "another owner", "toolkit.capabilities": "other capabilities",
             "toolkit.xattr": "an ACL"},
            "our own files on the node were changed while they were used",
            _SUSPECT,
        ),
    ),
}  # fmt: skip

_RESULTS: Final[Mapping[str, tuple[_Group, ...]]] = {
    "Results": (
        _Group(
            {"provenance.missing": "there is no provenance",
             "provenance.malformed": "it is none"},
            "it was not signed, or the file was cut off",
            "[provenance] write of the remote; get the directory again",
        ),
        _Group(
            {"provenance.version": "an older or a newer mock-cloud wrote it"},
            "what is signed has changed between the two versions",
            "older: build it again; newer: verify it with a mock-cloud of that version",
        ),
        _Group(
            {"provenance.signer": "none of your keys signed it",
             "provenance.signature": "a signature is not of what is there"},
            "another builder's key; or it was changed",
            "get the builder's public key from the builder, not from beside the results",
        ),
        _Group(
            {"provenance.revoked": "your policy says that the key signs nothing",
             "provenance.expired": "your policy says that the key had ended then"},
            "the key was stolen or replaced",
            "have it built and signed again",
        ),
        _Group(
            {"provenance.future": "it is of a time to come",
             "provenance.age": "it is older than your policy allows"},
            "a wrong clock, here or there; or an old build",
            "set the clock; build again",
        ),
        _Group(
            {"provenance.scratch": "it is a scratch build, which never counts as a release",
             "provenance.tier": "your policy asks for another tier",
             "provenance.policy": "your policy asks for nodes judged by other rules",
             "provenance.remote": "your policy asks for another remote",
             "provenance.owner": "your policy asks for another owner",
             "provenance.manifest-signer": "others vouch for the node's image",
             "provenance.package-key": "others signed the node's packages"},
            "it was built elsewhere, or by laxer rules, than you accept",
            "build it as your policy says, or change the policy",
        ),
        _Group(
            {"provenance.agreed": "your policy asks for more builders that built the same"},
            "it was not built by several, or published without a draw",
            "build it with --duplicate, or [audit] in the remote's file",
        ),
        _Group(
            {"result.missing": "a file is gone", "result.changed": "a file is another one",
             "result.extra": "a file is not of this build"},
            "the directory was changed after the build",
            "get the directory again; what is extra, move elsewhere",
        ),
        _Group(
            {"result.unreadable": "it is a link, a pipe or a device, or may not be read"},
            "not what a build leaves",
            "look at it; copy regular files only",
        ),
        _Group(
            {"result.resigned": "a package has another signature; header and payload are as built"},
            "it was signed since, as for a release",
            "resigned = true in your policy accepts that",
        ),
        _Group(
            {"owner.signature": "the owner of the machine did not sign for these packages",
             "owner.missing": "the owner of the machine signed nothing",
             "owner.key": "your policy asks for another owner's key"},
            "the machine's owner changed the key; or the results are not what the owner's machine"
            " built",
            "ask the owner for the key's fingerprint; build again, or elsewhere",
        ),
        _Group(
            {"evidence.missing": "there is no evidence",
             "evidence.changed": "it is another than was signed for",
             "evidence.unusable": "it can't be read"},
            "it was left out or changed: the verdict can't be recomputed",
            "get remote_evidence.zip; or evidence = false in your policy",
        ),
        _Group(
            {"evidence.refused": "the verdict was recomputed, and is a refusal"},
            "rules became stricter since; or the builder trusted what it should not",
            "look up the code that it names, with this command",
        ),
        _Group(
            {"evidence.disagrees": "the provenance says something else than the evidence"},
            "one of both is not of this build",
            "do not use the results; ask their builder",
        ),
    ),
}  # fmt: skip


def explanations() -> Iterator[Explanation]:
    """All of them, in the order of the documents."""
    for section, groups in {**_NODES, **_RESULTS}.items():
        for group in groups:
            for code, seen in group.seen.items():
                also = tuple(one for one in group.seen if one != code)
                yield Explanation(code, section, seen, group.means, group.do, also)


def find_near(code: str) -> list[str]:
    """Codes that are written like `code`, or of the subject that it names."""
    known = [one.code for one in explanations()]
    return [one for one in known if one.partition(".")[0] == code] or difflib.get_close_matches(
        code, known, n=3
    )
