# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes mock's configuration directory for the lab's distribution, and a local remote.

The files are in mock's own format: Python that fills `config_opts`, `include()` of a template,
Jinja2 in the values.
"""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab import dist, generations, keys, own
from tests.lab.layout import RELEASES, Lab
from tests.lab.prepare import is_debian

_TEMPLATE = """\
# What both releases of the lab have in common.
config_opts['description'] = 'Lab Linux {{ releasever }}'
config_opts['lab_group'] = 'buildsys-build'
config_opts['chroot_setup_cmd'] = 'install @SETUP@'
config_opts['dist'] = 'lab{{ releasever }}'
config_opts['extra_chroot_dirs'] = ['/run/lock']
config_opts['package_manager'] = '@MANAGER@'
config_opts['use_bootstrap'] = False
@DBPATH@
config_opts['dnf.conf'] = \"\"\"
[main]
reposdir=/dev/null
assumeyes=1
best=1
gpgcheck=1
install_weak_deps=0
keepcache=1
metadata_expire=0
protected_packages=
retries=3
user_agent={{ user_agent }}

[lab]
name=Lab Linux {{ releasever }}
baseurl=@BASEURL@/{{ releasever }}
gpgkey=@KEYS@
skip_if_unavailable=False
\"\"\"
"""

_DBPATH = """\
# Debian's rpm, which the lab's distribution is packed from, defaults to ~/.rpmdb.
config_opts['macros']['%_dbpath'] = '/var/lib/rpm'
"""

_CHROOT = """\
config_opts['releasever'] = '{release}'
config_opts['target_arch'] = '{arch}'
config_opts['legal_host_arches'] = ('{arch}',)
config_opts['root'] = 'lab-{{{{ releasever }}}}-{{{{ target_arch }}}}'

include('templates/lab.tpl')
"""

_SITE_DEFAULTS = """\
# The site's own choices; the lab leaves mock's defaults alone.
"""

_ALIASES = """\
# No chroot of the lab has another name.
"""

_REMOTE = """\
# A node in namespaces of this machine, booted from the lab's tree.
[remote]
provider = "local"
arches = ["{arch}"]

[local]
image = "{tree}"

[attest]
manifest = "{manifest}"
manifest_keys = ["{manifest_key}"]
package_keys = ["{package_key}"]
"""


@dataclass(frozen=True, slots=True)
class ConfigDirectory:
    """A written configuration directory: mock's files, and `remotes.d` of ours."""

    path: Path
    arch: str

    def chroot(self, release: int = 1) -> str:
        """The name to give to `mock -r`."""
        return f"lab-{release}-{self.arch}"

    def chroot_file(self, release: int = 1) -> Path:
        return self.path / f"{self.chroot(release)}.cfg"

    @property
    def remote_file(self) -> Path:
        return self.path / "remotes.d" / "local.toml"


@functools.cache
def _groups_work() -> bool:
    """Whether dnf of this system, which the nodes have too, can install a group.

    Debian 13's libcomps 0.1.21 under Python 3.13 crashes, or finds none, where a list is read by a
    generator expression, as dnf does.
    """
    adds = (
        "import libcomps, sys; one, both = libcomps.Comps(), libcomps.Comps();"
        "one.fromxml_str(sys.argv[1]); both += one;"
        "found = [list(e.id for e in both.groups), list(e.id for e in both.environments)];"
        "raise SystemExit(found != [['build', 'buildsys-build'], []])"
    )
    argv = ["/usr/bin/python3", "-c", adds, own.comps_xml(("bash",))]
    return subprocess.run(argv, check=False).returncode == 0


def buildroot_words(lab: Lab, group: str = "@buildsys-build") -> tuple[str, ...]:
    """What makes a minimal buildroot, for dnf: the group if dnf can, else its packages by name."""
    return (group,) if _groups_work() else dist.build_group(lab)


def write(lab: Lab, path: Path, *, repository_url: str) -> ConfigDirectory:
    """Write the configuration directory `path` for the repositories below `repository_url`.

    Idempotent. `repository_url` ends before the release number: ``http://…/dist``.
    """
    arch = lab.arch
    template = _TEMPLATE.replace("@BASEURL@", repository_url.rstrip("/"))
    template = template.replace("@DBPATH@", _DBPATH if is_debian() else "")
    setup = " ".join(buildroot_words(lab, "@{{ lab_group }}"))
    template = template.replace("@SETUP@", setup)
    template = template.replace("@MANAGER@", generations.of(lab).package_manager)
    files = {
        "site-defaults.cfg": _SITE_DEFAULTS,
        "chroot-aliases.cfg": _ALIASES,
        "templates/lab.tpl": template.replace(
            "@KEYS@", " ".join(f"file://{key}" for key in keys.package_keys(lab))
        ),
        "remotes.d/local.toml": _REMOTE.format(
            arch=arch,
            tree=lab.tree,
            manifest=lab.root / "node" / "manifest.dsse.json",
            manifest_key=lab.keys / "manifest.pub",
            package_key=lab.package_key,
        ),
    }
    for release in RELEASES:
        files[f"lab-{release}-{arch}.cfg"] = _CHROOT.format(release=release, arch=arch)
    for name, text in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return ConfigDirectory(path, arch)
