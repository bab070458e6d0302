# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers of rpm's tags and types, by rpm's own names (its include/rpm/rpmtag.h)."""

from __future__ import annotations

from enum import IntEnum


class Type(IntEnum):
    """rpmTagType: what the values of a tag are."""

    CHAR = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    STRING = 6
    BIN = 7
    STRING_ARRAY = 8
    I18NSTRING = 9


class SignatureTag(IntEnum):
    """Tags of a package file's signature header; some numbers mean something else in a header.

    Format 6 has none above 999.
    """

    HEADERSIGNATURES = 62
    LONGSIZE = 270
    SIZE = 1000


class Tag(IntEnum):
    """Tags of headers: those that are read, and those that `compare` calls by their name."""

    HEADERIMAGE = 61
    HEADERSIGNATURES = 62
    HEADERIMMUTABLE = 63
    DSAHEADER = 267
    RSAHEADER = 268
    SHA256HEADER = 273
    OPENPGP = 278
    SHA3_256HEADER = 279
    NAME = 1000
    VERSION = 1001
    RELEASE = 1002
    EPOCH = 1003
    SUMMARY = 1004
    DESCRIPTION = 1005
    BUILDTIME = 1006
    BUILDHOST = 1007
    SIZE = 1009
    LICENSE = 1014
    OS = 1021
    ARCH = 1022
    PREIN = 1023
    POSTIN = 1024
    PREUN = 1025
    POSTUN = 1026
    OLDFILENAMES = 1027
    FILESIZES = 1028
    FILEMODES = 1030
    FILERDEVS = 1033
    FILEMTIMES = 1034
    FILEDIGESTS = 1035
    FILELINKTOS = 1036
    FILEFLAGS = 1037
    FILEUSERNAME = 1039
    FILEGROUPNAME = 1040
    SOURCERPM = 1044
    FILEVERIFYFLAGS = 1045
    PROVIDENAME = 1047
    REQUIREFLAGS = 1048
    REQUIRENAME = 1049
    REQUIREVERSION = 1050
    RPMVERSION = 1064
    TRIGGERSCRIPTS = 1065
    CHANGELOGTIME = 1080
    CHANGELOGTEXT = 1082
    COOKIE = 1094
    FILEDEVICES = 1095
    FILEINODES = 1096
    FILELANGS = 1097
    SOURCEPACKAGE = 1106
    PROVIDEVERSION = 1113
    DIRINDEXES = 1116
    BASENAMES = 1117
    DIRNAMES = 1118
    OPTFLAGS = 1122
    PAYLOADCOMPRESSOR = 1125
    PLATFORM = 1132
    FILECOLORS = 1140
    SOURCESIGMD5 = 1146
    LONGFILESIZES = 5008
    LONGSIZE = 5009
    FILECAPS = 5010
    FILEDIGESTALGO = 5011
    BUGURL = 5012
    VCS = 5034
    PAYLOADSHA256 = 5092
    PAYLOADSHA256ALGO = 5093
    PAYLOADSHA256ALT = 5097
    PAYLOADSIZE = 5112
    PAYLOADSIZEALT = 5113
    RPMFORMAT = 5114
    PAYLOADSHA512 = 5121
    PAYLOADSHA512ALT = 5122
    PAYLOADSHA3_256 = 5123
    PAYLOADSHA3_256ALT = 5124
