//! Texts that only look like secrets and personal values.

use super::corpus::Dice;

/// Shapes of harmless texts: ids, hashes, numbers, SQL, code, logs.
const SHAPES: &[&str] = &[
    "‹h8›-‹h4›-4‹h3›-a‹h3›-‹h12›",
    "sha256:‹h64›",
    "commit ‹h40›",
    "md5 ‹h32›",
    "ETag: \"‹h32›\"",
    "trace ‹h32› span ‹h16›",
    "traceparent 00-‹h32›-‹h16›-01",
    "order ‹n1›‹d7›",
    "order number ‹n1›‹d9›",
    "ORD-‹d4›-‹d6›",
    "invoice 2026-‹d5›",
    "RE-‹d4›/‹d4›",
    "ticket #‹n1›‹d5›",
    "SKU ‹A3›-‹A5›-‹d3›",
    "tracking 1Z‹A16›",
    "ISBN 978-3-16-148410-0, copy ‹d3›",
    "EAN 4006381333931 × ‹d2›",
    "17‹d11› ms since 1970",
    "17‹d14›",
    "snowflake 1‹d17›",
    "2026-‹d1›1-2‹d1›T21:20:06.‹d6›+02:00",
    "took ‹n1›.‹d15› s",
    "balance ‹n1›‹d6›.‹d2› EUR",
    "‹n1›‹d2›,‹d3›,‹d3› rows",
    "lat 52.‹d6›, lon 13.‹d6›",
    "v‹d1›.‹d2›.‹d1›-beta.‹d1›",
    "serde@1.0.‹d3›",
    "image@2x.png and logo@‹d1›x.jpg",
    "git@github.com:acme/repo-‹a4›.git",
    "https://example.com/a/‹h24›?page=‹d2›&sort=name",
    "https://cdn.example.com/‹x22›/app.‹h8›.js",
    "http://localhost:8080/health?id=‹d6›",
    "/var/lib/app/‹h16›/‹d8›.log",
    "s3://bucket-‹a6›/2026/11/‹d2›/part-‹d5›.parquet",
    "pod app-‹h9›-‹a5› restarted",
    "ULID 01‹A24›",
    "SELECT * FROM orders WHERE id = ‹n1›‹d8›",
    "SELECT name FROM users WHERE password = $1 AND email = $2",
    "UPDATE accounts SET secret = crypt($1, gen_salt('bf')) WHERE id = ‹d6›",
    "INSERT INTO t (a, b) VALUES (‹d4›, ‹d4›), (‹d4›, ‹d4›)",
    "WHERE id IN (‹d3›, ‹d3›, ‹d4›) LIMIT ‹d2›",
    "SELECT token, count(*) FROM sessions GROUP BY 1 -- ‹d4›",
    "DELETE FROM log WHERE at < '2026-0‹n1›-01 00:00:00'",
    "let password = read_password(prompt)?; // ‹d3›",
    "fn api_key(&self) -> &str { self.key_‹d2› }",
    "const token = await getToken(user‹d2›);",
    "password: String, secret: Option<Secret>, // ‹d2›",
    "if (secret == null) throw new Error('no secret ‹d2›');",
    "\"password\": {\"type\": \"string\", \"minLength\": ‹d1›2}",
    "the api key is read from $API_KEY_‹d2›",
    "Bearer tokens expire after ‹d2› minutes",
    "basic understanding of ‹d2› topics",
    "authorization failed for role reader‹d2›",
    "postgres://app@localhost:5432/app‹d2›",
    "postgres://app:${DB_PASSWORD}@db/app‹d2›",
    "DATABASE_URL=postgres://user:<password>@host/db‹d2›",
    "x = matrix_a @ matrix_b‹d1›; y = a@b",
    "@app.route('/v‹d1›/items')",
    "input_token_count=‹d4› output_token_count=‹d3›",
    "{\"token_count\":‹d4›,\"model\":\"m-‹d2›\",\"cached\":true}",
    "{\"order\":{\"id\":\"‹h24›\",\"lines\":[‹d3›,‹d3›],\"note\":\"ok\"}}",
    "data:image/png;base64,iVBORw0KGgo‹x44›",
    "AAAAB3NzaC1yc2E fingerprint SHA256:‹x43›",
    "1.‹d2›.‹d3›.‹d1› is the version, ‹d2›:‹d2› the ratio",
    "GB/T ‹d5›-2026, DIN EN ‹d5›",
    "part no. ‹n1›‹d2›-‹d3›-‹d2›",
    "score ‹d2›-‹d2›, set 6-4 7-5",
    "room 12.‹d3›, ext. ‹d4›",
    "PK‹d6› and ZIP ‹d5›-‹d4›",
    "flight LH‹d3› on 24.12.2026 at 06:‹d2›",
    "task-‹d6› risk-‹d4› disk-‹d5›",
    "desk_live_view test_‹a8› live_‹a6›",
    "linear regression, intercom and discord at ‹d2› %",
    "heroku and twitter were down for ‹d2› minutes",
    "facebook/react #‹d5›: fix key warning",
];

/// Prose in five languages, with a number in each.
const PROSE: &[&str] = &[
    "How many customers ordered more than ‹d3› items last month, and what did they return?",
    "Please summarise the meeting of 2026-11-‹d2›: who asked for access, and was the request approved?",
    "The password policy asks for at least ‹d2› characters; a secret kept by three people is none.",
    "Wie viele Kundinnen haben im Jahr 20‹d2› mehr als ‹d3› Artikel bestellt?",
    "Der Schlüssel zum Erfolg ist Geduld; Zimmer ‹d3› ist frei, der Zug fährt um 14:‹d2› Uhr.",
    "Combien de clients ont commandé plus de ‹d3› articles en novembre 20‹d2› ?",
    "Le mot de passe n'est jamais enregistré ; la page ‹d3› explique pourquoi.",
    "¿Cuántos pedidos superaron los ‹d3› euros durante el año 20‹d2›?",
    "El documento ‹d2› describe la clave primaria y las ‹d3› tablas restantes.",
    "请统计2026年第‹d1›季度订单数量超过‹d3›的客户,并按地区汇总。",
    "密码策略要求至少‹d2›个字符,其他内容见第‹d3›页。",
];

/// Returns the harmless texts.
pub(crate) fn texts() -> Vec<String> {
    let mut dice = Dice::new(3);
    let mut all = Vec::new();
    while all.len() < 1_100 {
        for shape in SHAPES.iter().chain(PROSE) {
            all.push(dice.fill(shape));
        }
    }
    all
}
