//! Secrets and personal values, and what only looks like them, made from shapes: no real one is in the
//! project, and none stands in a file. The same ones each time.

/// Numbers that look random and are the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % end
    }

    fn of(&mut self, alphabet: &str, len: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..len)
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Replaces `‹h40›` by 40 hexadecimal digits, and so on.
    pub(crate) fn fill(&mut self, shape: &str) -> String {
        let mut text = String::new();
        let mut rest = shape;
        while let Some((before, after)) = rest.split_once('‹') {
            text.push_str(before);
            let (what, after) = after.split_once('›').unwrap();
            let (class, len) = what.split_at(1);
            let alphabet = match class {
                "h" => "0123456789abcdef",
                "H" => "0123456789ABCDEF",
                "d" => "0123456789",
                "n" => "123456789",
                "a" => "abcdefghijklmnopqrstuvwxyz0123456789",
                "l" => "abcdefghijklmnopqrstuvwxyz",
                "A" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
                "2" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
                "x" | "w" | "b" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                _ => panic!("no class {class}"),
            };
            text.push_str(&self.of(alphabet, len.parse().unwrap()));
            rest = after;
        }
        text + rest
    }
}

/// A text with a value that must not be found in it afterwards.
#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) text: String,
    pub(crate) value: String,
}

/// Shapes of secrets, each value between « and ».
const SECRETS: &[&str] = &[
    "export AWS_ACCESS_KEY_ID=«AKIA‹216›»",
    "aws_secret_access_key = «‹x40›»",
    "remote: https://«ghp_‹x36›»@github.com/acme/app.git",
    "token «gho_‹x36›», then retry",
    "(«ghs_‹x36›»)",
    "\"«github_pat_‹x22›_‹x59›»\"",
    "glab auth login --token «glpat-‹x20›»",
    "slack: «xoxb-‹d12›-‹d12›-‹x24›»",
    "SLACK_APP=«xapp-1-A‹A9›-‹d13›-‹a64›»",
    "POST https://«hooks.slack.com/services/T‹A10›/B‹A10›/‹x24›»",
    "Stripe.api_key = '«sk_live_‹x24›»'",
    "stripe listen: «whsec_‹x32›»",
    "rk: «rk_test_‹x30›»",
    "openai: «sk-proj-‹x74›T3BlbkFJ‹x74›»",
    "anthropic «sk-ant-api03-‹x93›AA»",
    "GOOGLE_API_KEY=«AIza‹x35›»",
    "client secret «GOCSPX-‹x28›»",
    "access «ya29.‹x60›»",
    "npm «npm_‹a36›»",
    "twine upload -p «pypi-AgEIcHlwaS5vcmc‹x60›»",
    "gem «rubygems_‹h48›»",
    "SENDGRID=«SG.‹x22›.‹x43›»",
    "TWILIO «SK‹h32›»",
    "mailchimp_key: '«‹h32›-us20»'",
    "HF_TOKEN=«hf_‹l34›»",
    "dockerless «dop_v1_‹h64›»",
    "shopify «shpat_‹H32›»",
    "vault login «hvs.‹x95›»",
    "grafana «glsa_‹x32›_‹h8›»",
    "databricks «dapi‹h32›»",
    "postman «PMAK-‹h24›-‹h34›»",
    "linear «lin_api_‹a40›»",
    "notion «ntn_‹d11›‹x35›»",
    "pulumi «pul-‹h40›»",
    "age «AGE-SECRET-KEY-1QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE6MU»",
    "perplexity «pplx-‹x48›»",
    "groq «gsk_‹x52›»",
    "openrouter «sk-or-v1-‹h64›»",
    "replicate «r8_‹x37›»",
    "supabase «sbp_‹h40›»",
    "planetscale «pscale_tkn_‹x43›»",
    "typeform «tfp_‹a59›»",
    "newrelic «NRAK-‹A27›»",
    "doppler «dp.pt.‹x43›»",
    "flyio «fo1_‹x43›»",
    "cloudflare_api_key = \"«‹a40›»\"",
    "datadog_api_key: «‹a40›»",
    "heroku api key = «‹h8›-‹h4›-‹h4›-‹h4›-‹h12›»",
    "fastly_token: '«‹a32›»'",
    "okta_token = '«00‹x40›»'",
    "Authorization: Bearer «‹x48›»",
    "authorization: Basic «YWRtaW46‹x16›»",
    "curl -u admin:«‹x14›» https://example.com/api",
    "curl -H 'Authorization: Bearer «‹x40›»' https://example.com",
    "jwt «eyJhbGciOiJIUzI1NiJ9‹x4›.eyJzdWIiOiIxMjM0‹x12›.‹x43›»",
    "postgres://app:«‹x16›»@db.internal:5432/app",
    "mysql://root:«‹x9›!»@10.0.0.7/shop?ssl=true",
    "redis://:«‹x20›»@cache:6379/0",
    "amqps://svc:«‹x12›»@mq.example.com/vhost",
    "mongodb+srv://u:«‹x18›»@cluster0.example.net/db",
    "Server=db;Database=shop;User Id=sa;Password=«‹x12›»;Encrypt=true",
    "host=db user=app password=«‹x15›» dbname=shop",
    "Driver=ODBC;Pwd=«‹x10›»;Server=db1;Uid=app",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=«‹x86›==»",
    "ALTER ROLE app WITH LOGIN PASSWORD '«‹x12›»'",
    "CREATE USER 'app' IDENTIFIED BY '«‹x14›»'",
    "Credentials { user: \"app\", password: \"«‹x12›9»\" }",
    "{\"user\":\"app\",\"password\":\"«‹x12›»\"}",
    "{\"auth\":{\"apiKey\":\"«‹x32›»\"},\"n\":1}",
    "{\"headers\":{\"Authorization\":\"«‹x32›»\",\"Accept\":\"*/*\"}}",
    "{\"body\":\"{\\\"client_secret\\\":\\\"«‹x24›»\\\"}\"}",
    "GET /callback?code=1&access_token=«‹x40›»&state=x",
    "https://bucket.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature=«‹h64›»",
    "Set-Cookie: «session=‹x32›; theme=dark»",
    "-----BEGIN RSA PRIVATE KEY-----\n«‹x64›\n‹x64›\n‹x32›»\n-----END RSA PRIVATE KEY-----",
    "key: -----BEGIN OPENSSH PRIVATE KEY-----\\n«‹x70›\\n‹x70›»\\n-----END OPENSSH PRIVATE KEY-----\\n",
    "cut off: -----BEGIN PRIVATE KEY-----\n«‹x64›\n‹x12›»",
];

/// Shapes of personal values whose check digits are made afterwards: `!` and the name of the check.
const PERSONS: &[&str] = &[
    "mail «‹l7›.‹l9›@example.com» soon",
    "<«‹l5›+‹l4›@mail.‹l8›.co.uk»>",
    "SELECT * FROM users WHERE email = '«‹l6›_‹d3›@‹l7›.org»'",
    "«‹l4›é‹l4›@exämple-‹l3›.de» schrieb",
    "{\"to\":\"«‹l8›@‹l6›.io»\"}",
    "{\"to\":\"«‹l8›\\u0040‹l6›.io»\"}",
    "call «+49 30 ‹n1›‹d6›»",
    "Tel. «030 ‹n1›‹d6›»",
    "mobile: «0‹n3› ‹d7›»",
    "«(415) 555-‹d4›» or later",
    "phone «+1 212-555-‹d4›»",
    "fax «+44 20 7‹d3› ‹d4›»",
    "appelez le «06 ‹d2› ‹d2› ‹d2› ‹d2›»",
    "«+81-3-‹n1›‹d3›-‹d4›»",
];

fn luhn_digit(digits: &str) -> char {
    (b'0'..=b'9')
        .map(char::from)
        .find(|last| {
            let text = format!("{digits}{last}");
            let sum: u32 = text.chars().rev().enumerate().fold(0, |sum, (at, c)| {
                let digit = c.to_digit(10).unwrap();
                sum + if at % 2 == 0 {
                    digit
                } else {
                    digit * 2 / 10 + digit * 2 % 10
                }
            });
            sum.is_multiple_of(10)
        })
        .unwrap()
}

fn card(dice: &mut Dice) -> String {
    let (prefix, len) = [
        ("4", 16),
        ("51", 16),
        ("2221", 16),
        ("37", 15),
        ("6011", 16),
        ("3528", 16),
        ("36", 14),
    ][dice.below(7)];
    let mut digits = prefix.to_owned() + &dice.of("0123456789", len - prefix.len() - 1);
    digits.push(luhn_digit(&digits));
    let separator = dice.one(&["", " ", "-"]);
    let groups: &[usize] = match len {
        16 => &[4, 8, 12],
        _ => &[4, 10],
    };
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if groups.contains(&at) {
            text.push_str(separator);
        }
        text.push(digit);
    }
    text
}

fn iban(dice: &mut Dice) -> String {
    let (country, account) = match dice.below(4) {
        0 => ("DE", dice.of("0123456789", 18)),
        1 => ("GB", format!("NWBK{}", dice.of("0123456789", 14))),
        2 => ("FR", dice.of("0123456789", 23)),
        _ => ("NL", format!("ABNA{}", dice.of("0123456789", 10))),
    };
    let number = format!("{account}{country}00");
    let rest = number.chars().fold(0_u32, |rest, c| {
        let value = c.to_digit(36).unwrap();
        (rest * if value > 9 { 100 } else { 10 } + value) % 97
    });
    let plain = format!("{country}{:02}{account}", 98 - rest);
    if dice.below(2) == 0 {
        return plain;
    }
    plain
        .as_bytes()
        .chunks(4)
        .map(|four| std::str::from_utf8(four).unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

/// National ids: the examples that the authorities publish.
const NATIONAL_IDS: &[&str] = &[
    "«111.444.777-35»",
    "CPF «529.982.247-25»",
    "PESEL: «44051401359»",
    "hetu «131052-308T»",
    "NIR «2 55 08 14 168 025 38»",
    "«85.07.30-033.28»",
    "personnummer «811228-9874»",
    "身份证 «11010519491231002X»",
    "CF «RSSMRA85T10A562S»",
    "NHS number «943 476 5919»",
    "BSN «111222333»",
    "Steuer-ID «86095742719»",
    "DNI «12345678Z»",
    "NIE «X1234567L»",
    "Aadhaar «2341 2341 2346»",
    "SSN «219-09-9999»",
];

/// Returns the secrets.
pub(crate) fn secrets() -> Vec<Secret> {
    let mut dice = Dice::new(1);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(SECRETS.iter().map(|shape| secret(&dice.fill(shape))));
    }
    all
}

/// Returns the personal values.
pub(crate) fn persons() -> Vec<Secret> {
    let mut dice = Dice::new(2);
    let mut all: Vec<Secret> = NATIONAL_IDS.iter().map(|text| secret(text)).collect();
    for _ in 0..3 {
        all.extend(PERSONS.iter().map(|shape| secret(&dice.fill(shape))));
        for _ in 0..5 {
            let (card, iban) = (card(&mut dice), iban(&mut dice));
            let before = dice.one(&[
                "paid with ",
                "PAN=",
                "card number: ",
                "INSERT INTO cards VALUES ('",
                "{\"card\":",
            ]);
            let after = if before.ends_with('\'') {
                "')"
            } else if before.ends_with(':') {
                "}"
            } else {
                ", thanks"
            };
            let is_number = before.ends_with("\":") && card.contains([' ', '-']);
            let (open, close) = if is_number { ("\"", "\"") } else { ("", "") };
            all.push(secret(&format!("{before}{open}«{card}»{close}{after}")));
            all.push(secret(&format!(
                "{} «{iban}».",
                dice.one(&["IBAN", "Konto", "to account", "transfer →"])
            )));
        }
    }
    all
}

fn secret(text: &str) -> Secret {
    let (_, rest) = text.split_once('«').unwrap();
    let (value, _) = rest.split_once('»').unwrap();
    Secret {
        text: text.replace(['«', '»'], ""),
        value: value.to_owned(),
    }
}
