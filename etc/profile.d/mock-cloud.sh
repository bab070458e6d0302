# SPDX-License-Identifier: GPL-2.0-or-later
# mock-cloud's launcher before /usr/bin/mock.
case ":$PATH:" in
    *:/usr/libexec/mock-cloud/bin:*) ;;
    *) PATH=/usr/libexec/mock-cloud/bin"${PATH:+:$PATH}"; export PATH ;;
esac
