# SPDX-License-Identifier: GPL-2.0-or-later
# mock-cloud's launcher before /usr/bin/mock.
if ( ":${PATH}:" !~ *:/usr/libexec/mock-cloud/bin:* ) setenv PATH /usr/libexec/mock-cloud/bin:${PATH}
