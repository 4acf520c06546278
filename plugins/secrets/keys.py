"""Key material, signed tokens, database connection strings and credentials in URLs, headers and commands.

Follows RFC 7468 (PEM), RFC 7519 and 7517 (JWT, JWK), RFC 3986 (user information), RFC 6750 and 7617 (bearer and
basic credentials), and the connection string references of the databases.
"""

from plugins.secrets.checks import (
    is_password,
    is_random,
    is_url_password,
    is_user_password,
    not_placeholder,
)
from plugins.secrets.rule import Rule, keyed, literal, named

_PRIVATE = (
    r"-----BEGIN[ A-Z0-9]{0,24}(?:PRIVATE KEY|PRIVATE KEY BLOCK|ENCRYPTED PRIVATE KEY BLOCK)-----"
)
_DATABASES = (
    r"mongodb|mongodb\+srv|postgres|postgresql|mysql|mysql2|mariadb|mssql|sqlserver|redis|rediss|amqp|amqps|clickhouse"
    r"|cockroachdb|couchbase|couchbases|neo4j|bolt|nats|snowflake|redshift|jdbc:[a-z0-9]{2,14}"
)


RULES = (
    Rule(
        "private-key", opens=_PRIVATE, closes=r"-----END[ A-Z0-9]{0,60}-----", group="secrets.key"
    ),
    Rule(
        "putty-private-key",
        opens=r"PuTTY-User-Key-File-\d",
        closes=r"Private-MAC:[ \t]{0,9}[0-9a-f]{40,300}",
        group="secrets.key",
    ),
    Rule("private-key-base64", opens="LS0tLS1CRUdJTi", tail="[^A-Za-z0-9+/=]", group="secrets.key"),
    Rule("kerberos-hash", opens=r"\$krb5(?:tgs|asrep|pa)\$", tail=r"[\s\"']", group="secrets.key"),
    Rule(
        "docker-config-base64",
        opens="eyJhdXRocyI6",
        tail="[^A-Za-z0-9+/=]",
        group="secrets.registry",
    ),
    Rule(
        "jwt", opens=r"\beyJ[\w-]{6,200}\.(?:eyJ|[\w-]{20})", tail=r"[^\w.-]", group="secrets.key"
    ),
    *literal(
        "secrets.key",
        r"""
        age-secret-key               AGE-SECRET-KEY-1[A-Z0-9]{50,60}
        age-plugin-key               AGE-PLUGIN-[A-Z0-9-]{3,20}-1[A-Z0-9]{20,}
        jwt-base64                   \bZXlK[A-Za-z0-9+/_-]{40,}={0,2}
        jwk-base64                   \b(?:ewogICAg|eyJrdHki|eyAia3R5)[A-Za-z0-9+/]{60,}={0,2}
        bcrypt-hash                  \$2[abxy]\$\d{2}\$[./A-Za-z0-9]{53}
        argon2-hash                  \$argon2(?:id|i|d)\$v=\d{1,4}\$[^\s"']{20,}
        unix-crypt-hash              \$[156y]\$[./A-Za-z0-9=,$]{20,}
        bitcoin-extended-key         \b[xyzt]prv[1-9A-HJ-NP-Za-km-z]{100,}
        nostr-private-key            nsec1[02-9ac-hj-np-z]{58}
        macaroon                     \bMDA[A-Za-z0-9]{2}bG9jYXRpb24[\w+/=-]{40,}
        """,
    ),
    Rule(
        "jwk-private-member",
        r"[\w-]{22,300}",
        r'"(?:d|p|q|dp|dq|qi|k)"\s{0,4}:\s{0,4}"',
        '"',
        is_random,
        "secrets.key",
    ),
    Rule(
        "wireguard-key",
        r"[A-Za-z0-9+/]{42,43}=",
        named(r"private_?key|preshared_?key"),
        check=not_placeholder,
        group="secrets.key",
    ),
    Rule(
        "ethereum-private-key",
        r"(?:0x)?[0-9a-fA-F]{64}",
        named(r"private_?key|priv_?key|mnemonic_key|wallet_key"),
        check=is_random,
        group="secrets.key",
    ),
    *literal(
        "secrets.database",
        r"""
        planetscale-token            pscale_(?:tkn|pw|oauth)_[\w.=-]{30,}
        supabase-token               \bsb[pv]_(?:v\d_)?[0-9a-f]{40}
        supabase-key                 \bsb_(?:secret|publishable)_[\w-]{20,}
        mongodb-atlas-secret         mdb_sa_(?:sk|id)_[\w-]{24,}
        datastax-token               AstraCS:[A-Za-z0-9]{20,}:[0-9a-f]{64}
        neon-key                     napi_[a-z0-9]{40,}
        clickhouse-cloud-key         4b1d[A-Za-z0-9]{38}\b
        databricks-token             \bdapi[0-9a-f]{32}(?:-\d)?
        confluent-key                \bcflt[A-Za-z0-9+/]{60}
        prisma-data-proxy-key        prisma\+?://[\w.-]{1,100}/\?api_key=[\w.-]{30,}
        dbt-cloud-token              \bdbt[uc]_[\w-]{30,}
        hasura-pat                   hasura_pat_[\w-]{30,}
        couchbase-connection         \bcouchbase://[^\s:@/]{1,60}:[^\s:@/]{4,100}@
        """,
    ),
    Rule(
        "connection-string",
        rf"""(?i:{_DATABASES})://[^\s:@/"'<>?#]{{0,80}}:[^\s"'<>@`]{{2,200}}@[^\s"'<>`\\]{{3,300}}""",
        check=is_url_password,
        group="secrets.database",
    ),
    Rule(
        "connection-settings",
        r"(?i:(?:server|data source|host|hostname|endpoint|defaultendpointsprotocol)="
        r"""[^"'\r\n<>]{3,160}(?:password|pwd|accountkey|sharedaccesskey|secret)=[^;"'\s<>]{4,200})""",
        check=not_placeholder,
        group="secrets.database",
    ),
    Rule(
        "connection-string-password",
        r"""[^\s;"'<>{}$%,&]{4,300}""",
        r"""(?i:[;"' &?](?:password|pwd|passwd)\s?=\s?["']?)""",
        check=is_password,
        group="secrets.database",
    ),
    Rule(
        "netrc-password",
        r"[^\s\"']{4,300}",
        r"(?i:machine\s{1,9}\S{1,80}\s{1,9}login\s{1,9}\S{1,80}\s{1,9}password\s{1,9})",
        check=is_password,
        group="secrets.database",
    ),
    Rule(
        "securestring-password",
        r"""[^\s"'`\\]{6,300}""",
        r"""(?i:convertto-securestring\s{1,3}(?:-string\s{1,3})?\\?["'])""",
        check=is_password,
        group="secrets.command",
    ),
    Rule(
        "short-password",
        r"""[^\s"'`<>,;]{6,300}""",
        r"""(?i:\bpw[:=]\s{0,3}["']?)""",
        check=is_password,
        group="secrets.generic",
    ),
    Rule(
        "dashed-key",
        r"[A-Za-z0-9]{8}[A-Za-z0-9-]{14,300}",
        r"(?i:(?:key|token|secret|access|private)-)",
        check=is_random,
        group="secrets.generic",
    ),
    Rule(
        "node-url-key",
        r"[\w-]{28,300}",
        r"(?i:infura\.io/(?:ws/)?v3/|alchemy(?:api)?\.(?:io|com)/(?:nft/)?v[23]/|quiknode\.pro/)",
        check=is_random,
        group="secrets.url",
    ),
    Rule(
        "sql-password",
        r"""[^'"\s;]{4,300}""",
        r"(?i:identified by (?:password )?|with (?:login |encrypted )?password ?=? ?)[\"']?",
        check=is_password,
        group="secrets.database",
    ),
    Rule(
        "url-password",
        r"""[^\s@/"'<>{}`|\\$]{3,300}""",
        r"""://[^\s:@/"'<>?#]{0,80}:""",
        r"@[\w\[.-]",
        is_url_password,
        "secrets.url",
    ),
    Rule(
        "url-token",
        r"""[^\s@/:"'<>{}`|\\$]{16,300}""",
        r"://",
        r"@[\w\[.-]",
        is_random,
        "secrets.url",
    ),
    Rule(
        "url-parameter",
        r"""[^\s&"'<>#\\{}$`]{8,300}""",
        r"(?i:[?&](?:access_?token|api_?key|apikey|auth|client_secret|code|credential|id_token|key|passwd|password|pwd|refresh_token|secret|session|sig|signature|token|x-api-key)=)",
        check=is_random,
        group="secrets.url",
    ),
    Rule(
        "authorization-bearer",
        r"[\w.~+/=|:-]{12,300}",
        r"""(?i:bearer["']?\s{1,4}|bearer:\s{0,4}|bearer\s{0,2}[=+]\s{0,2}["']?)""",
        check=is_random,
        group="secrets.header",
    ),
    Rule(
        "authorization-basic",
        r"[A-Za-z0-9+/_-]{8,300}={0,2}",
        r"""(?i:authorization["']?\s{0,3}[:=,]?\s{0,3}["']?basic\s{1,3})""",
        check=not_placeholder,
        group="secrets.header",
    ),
    Rule(
        "authorization-other",
        r"[\w.~+/=|:-]{16,300}",
        r"""(?i:authorization["']?\s{0,3}[:=,]\s{0,3}["']?(?:[a-z][a-z0-9_-]{1,20}\s{1,3})?)""",
        check=is_random,
        group="secrets.header",
    ),
    Rule(
        "credential-header",
        r"[\w.~+/=|:-]{10,300}",
        r"""(?i:x-(?:api|auth|access|secret|token|user|session|vault|gitlab|goog|amz|ms|shopify|rapidapi|figma)[a-z0-9-]{0,30}["']?\s{0,3}[:=,]\s{0,3}["']?)""",
        check=is_random,
        group="secrets.header",
    ),
    Rule(
        "cookie-session",
        r"[\w.%~+/=|:-]{16,300}",
        r"(?i:(?:phpsessid|jsessionid|sessionid|session_id|connect\.sid|asp\.net_sessionid|sid|laravel_session|csrftoken|xsrf-token)=)",
        check=is_random,
        group="secrets.header",
    ),
    Rule(
        "command-user-password",
        r"""[^\s"'$:{}]{0,80}:["']?[^\s"'$]{0,100}""",
        r"""(?:-u |-u"|-u'|--user |--user=|--proxy-user |--proxy-user=|USERPWD[ =,]{1,3})["']?""",
        check=is_user_password,
        group="secrets.command",
    ),
    Rule(
        "command-password",
        r"""[^\s"'|;&]{4,300}""",
        r"(?i:(?:--|-)(?:password|passwd|pass|pwd|passphrase|secret|token|api-?key|auth-?token"
        r"""|access-?key)[ =:]{1,2}["']?)""",
        check=is_password,
        group="secrets.command",
    ),
    Rule(
        "remote-command-password",
        r"""[^\s"'|;&]{4,300}""",
        r"(?i:(?:psexec|net use|sshpass|mysql|mysqldump|mongo|redis-cli|smbclient|plink|winexe"
        r"""|crackmapexec|docker login|az login)\b[^\n|;]{0,120}\s-p ?["']?)""",
        check=is_password,
        group="secrets.command",
    ),
    *keyed(
        "secrets.database",
        """
        mongodb-atlas-key            mongodb_atlas|atlas_      word:30
        snowflake-secret             snowflake                 word:20
        planetscale-key              planetscale|pscale        word:32
        clickhouse-key               clickhouse                alnum:20
        upstash-token                upstash                   base64:40
        firebase-secret              firebase                  word:40
        supabase-service-key         supabase                  dotted:40
        couchbase-secret             couchbase                 any:20
        cloudant-key                 cloudant                  word:40
        fauna-secret                 fauna                     word:40
        databricks-key               databricks                alnum:32
        rockset-key                  rockset                   word:40
        redis-password               redis_pass|redis_auth     any:12
        """,
    ),
)
