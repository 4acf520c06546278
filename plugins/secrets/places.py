"""Where tools take and keep credentials: command lines, configuration and password files, ways of telling one.

Follows the manuals of the tools (OpenSSL, curl, OpenLDAP, Redis, SQL*Plus, sqlcmd, FreeRDP, Samba, Cisco IOS,
hostapd, Apache htpasswd, PostgreSQL's password file), RFC 7617 (Basic), RFC 2307 and crypt(5) (hashes),
RFC 5208 and 7292 (keys in DER), BIP 39 (recovery phrases) and Microsoft's BitLocker guide.
"""

from typing import Final

from plugins.secrets.checks import (
    is_basic,
    is_bitlocker,
    is_password,
    is_phrase,
    is_prefixed,
    is_random,
    is_strictly_random,
    is_user_password,
    is_wif,
    not_placeholder,
)
from plugins.secrets.rule import ASSIGN_APART, UUID, Rule, literal, named

_WORD: Final = r"""[^\s"'|;&<>]{4,200}"""
_DER: Final = (
    r"\b(?:MI[I-L][A-Za-z0-9+/]{3}IBA[ADz]|MHcCAQEEI|MHQCAQEEI|MIG[A-Za-z0-9+/]AgE[AB][BM]|MIHcAgEBBEI"
    r"|MC4CAQAwBQYDK2V)"
)
# What stands before the random part of a token and says that it is one, behind any other name.
_TELLING: Final = (
    r"(?i:key|token|secret|live|test|prod|prd|sandbox|api|pat|auth|access|priv|cred|tok|apikey|svc|sess|oat|bot"
    r"|\bsk|\bpk|\bak|\brk|_sk|_pk|_ak|_at|_rt|_pt|-sk)"
)
_SAID: Final = (
    r"(?i:[\"'`]?[,.]?\s{1,3}(?:is|as|are|=|for|was)\s{1,2}(?:the|my|our|your|a|an|his|her|their|this)\s"
    r"(?:[\w-]{1,20}\s){0,3}(?:[\w-]{0,20}(?:token|key|secret|password|passwd|credential|passphrase|passcode)))"
)

RULES = (
    Rule("private-key-der", opens=_DER, tail=r"[^A-Za-z0-9+/=]", group="secrets.key"),
    Rule(
        "private-key-ssh2",
        opens=r"---- BEGIN SSH2[ A-Z0-9]{0,12} PRIVATE KEY ----",
        closes=r"---- END[ A-Z0-9]{0,60} ----",
        group="secrets.key",
    ),
    Rule(
        "openvpn-static-key",
        opens=r"-----BEGIN OpenVPN (?:Static key V1|tls-crypt-v2[a-z ]{0,12}key)-----",
        closes=r"-----END OpenVPN[\w -]{0,40}-----",
        group="secrets.key",
    ),
    *literal(
        "secrets.key",
        r"""
        minisign-secret-key          \bRWRTY0Iy[A-Za-z0-9+/]{100,}={0,2}
        signify-secret-key           \bRWRCSw[A-Za-z0-9+/]{100,}={0,2}
        apache-hash                  \$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}
        ldap-hash                    \{(?:S?SHA(?:256|384|512)?|S?MD5|CRYPT)\}[A-Za-z0-9+/=$.]{20,}
        phpass-hash                  \$[PHS]\$[./A-Za-z0-9]{31,55}
        pbkdf2-hash                  \bpbkdf2[_:-]?sha(?:1|256|512)[$:]\d{3,9}[$:][./\w+=]{4,90}\$[./\w+=]{20,}
        scrypt-hash                  (?:\bscrypt:\d{3,9}:\d{1,2}:\d{1,2}|\$scrypt)\$[^\s"'<>]{30,}
        cisco-hash                   \$[89]\$[./A-Za-z0-9]{14}\$[./A-Za-z0-9]{43}
        grub-hash                    grub\.pbkdf2\.sha512\.\d{3,9}\.[0-9A-F]{32,}
        ntlm-hash                    (?::50[0-3]:|(?i::(?:aad3b435b51404ee){2}:)) ~ (?:[\da-fA-F]{32}:)?[\da-fA-F]{32}\b
        """,
    ),
    Rule(
        "bitcoin-private-key",
        r"[5KLc9][1-9A-HJ-NP-Za-km-z]{50,51}",
        named("wif|bitcoin|btc|wallet|private_?key"),
        check=is_wif,
        group="secrets.key",
    ),
    Rule(
        "bitlocker-recovery-key",
        r"(?:[0-9]{6}-){7}[0-9]{6}",
        named("bitlocker|recovery[ _-]?(?:key|password)"),
        check=is_bitlocker,
        group="secrets.key",
    ),
    Rule(
        "wallet-recovery-phrase",
        r"(?:[a-z]{3,8}[ ,]{1,2}){11,23}[a-z]{3,8}\b",
        r"(?i:mnemonic|(?:seed|recovery|secret|backup)[ _-]?(?:phrase|words))[\w ]{0,40}"
        + ASSIGN_APART,
        check=is_phrase,
        group="secrets.key",
    ),
    Rule(
        "basic-credentials",
        r"[A-Za-z0-9+/_-]{8,300}={0,2}",
        r"(?i:basic)[ :=,]{1,3}[\"']?",
        check=is_basic,
        group="secrets.header",
    ),
    Rule(
        "password-option",
        _WORD,
        r"(?:(?:unzip|zip|sqlcmd|bcp|tabcmd|osql)\b[^\n|;]{0,160}\s-P ?|(?:7za?|rar|unrar) [^\n|;]{0,120}\s?-p"
        r"|(?:ldapsearch|ldapmodify|ldapadd|ldappasswd|ldapwhoami)\b[^\n|;]{0,200}\s-w ?|redis-cli\b[^\n|;]{0,120}\s-a "
        r"|(?:pass|passin|passout)[ =]pass:|/(?:pass|p|password):|(?:xfreerdp|rdesktop|evil-winrm)\b[^\n|;]{0,160}\s-p "
        r"|(?:net user|NET USER) [\w.-]{1,40} |htpasswd -[A-Za-z]{1,4} (?:\S{1,80} ){1,2}|wpa_passphrase \S{1,40} "
        r"|snmp(?:walk|get|set)\b[^\n|;]{0,80}\s-c |snmp-server community |vault login (?:-[\w=-]{1,40} ){0,3})[\"']?",
        check=is_password,
        group="secrets.command",
    ),
    Rule(
        "device-password",
        r"[^\s\"']{4,200}",
        r"(?:(?:secret|password|key|community|md5) [0579] )",
        check=is_password,
        group="secrets.command",
    ),
    Rule(
        "command-user-and-password",
        r"""[\w.\\-]{1,60}[%/][^\s"'@]{4,100}""",
        r"(?:(?:smbclient|rpcclient|smbmap|net rpc|wmic|sqlplus|expdp|impdp|rman)\b[^\n|;]{0,120}[\s\"'])",
        check=lambda text: is_user_password(text.replace("%", ":", 1).replace("/", ":", 1)),
        group="secrets.command",
    ),
    Rule(
        "secret-literal",
        r"""[^\s"']{6,300}""",
        r"""--from-literal[= ]["']?[\w.-]{1,80}=["']?""",
        check=is_password,
        group="secrets.command",
    ),
    Rule(
        "piped-password",
        r"""[^\s"'|]{4,200}""",
        r"""\becho (?:-n )?["']?(?:[\w.-]{1,40}:)?""",
        r"""["']?\s?\|\s?(?:sudo (?:-\w{1,3} ){0,3}-S|(?:sudo )?chpasswd"""
        r"""|(?:docker|podman|helm|crane|oras)[^\n|]{0,80}-stdin|(?:gh|glab) auth login)""",
        is_password,
        "secrets.command",
    ),
    Rule(
        "postgres-password-file",
        r"""[^\s:"']{4,200}""",
        r":(?:5432|5433|6432|6543|\*):[\w.*-]{1,63}:[\w.*-]{1,63}:",
        check=is_password,
        group="secrets.database",
    ),
    Rule(
        "wifi-password",
        r"""[^\s"'<>,;]{8,63}""",
        r"(?i:\bpsk|wpa[_-]?psk|pre-?shared-?key|passkey)" + ASSIGN_APART,
        check=is_password,
        group="secrets.generic",
    ),
    Rule(
        "wifi-code",
        r"""[^;\s]{6,63}""",
        r"WIFI:(?:[STH]:[^;\n]{0,40};){0,3}P:",
        check=not_placeholder,
        group="secrets.generic",
    ),
    Rule(
        "prefixed-hex",
        r"[0-9A-Za-z]{30,200}",
        _TELLING + r"[_-](?:[a-z0-9]{1,8}[_-]){0,2}",
        check=is_prefixed,
        group="secrets.generic",
    ),
    Rule(
        "prefixed-uuid",
        rf"(?:[a-z0-9]{{1,6}}[_-])?{UUID}",
        r"(?i:api|key|token|secret|pat|auth|pass)[_-]",
        check=is_random,
        group="secrets.generic",
    ),
    Rule(
        "stated-secret",
        r"[A-Za-z0-9][\w.~+/=-]{15,199}",
        r"(?:[uU]se|[uU]sing|[wW]ith|[sS]end|[pP]aste|[eE]nter|[tT]ry|[pP]ut|[sS]et) [\"'`]?",
        _SAID,
        is_strictly_random,
        "secrets.generic",
    ),
)
