//! The check digits that tell a number from one that only looks like it. All digits are given as
//! values from 0 to 9, unless a function says otherwise.

/// Returns whether the digits pass Luhn's check: payment cards, Swedish personal numbers.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| {
            let digit = u32::from(digit);
            if at % 2 == 1 {
                digit * 2 - if digit > 4 { 9 } else { 0 }
            } else {
                digit
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Returns the remainder of a number divided by `modulus`, which is below 1,000.
pub(super) fn remainder(digits: &[u8], modulus: u32) -> u32 {
    digits
        .iter()
        .fold(0, |rest, &digit| (rest * 10 + u32::from(digit)) % modulus)
}

/// Returns whether an IBAN, in capitals and without spaces, passes mod 97 (ISO 13616).
pub(super) fn iban(text: &[u8]) -> bool {
    if text.len() < 15 {
        return false;
    }
    let mut rest = 0_u32;
    for &byte in text[4..].iter().chain(&text[..4]) {
        rest = match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            b'A'..=b'Z' => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
            _ => return false,
        };
    }
    rest == 1
}

/// Returns the sum of the digits, each multiplied by its weight.
fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits
        .iter()
        .zip(weights)
        .map(|(&digit, weight)| u32::from(digit) * weight)
        .sum()
}

/// Brazil's CPF: 11 digits, of which two check the others.
pub(super) fn cpf(digits: &[u8]) -> bool {
    let check = |len: usize| {
        let first = u32::try_from(len).unwrap_or(0) + 1;
        let weights: Vec<u32> = (2..=first).rev().collect();
        weighted(&digits[..len], &weights) * 10 % 11 % 10 == u32::from(digits[len])
    };
    digits.len() == 11 && digits.iter().any(|digit| *digit != digits[0]) && check(9) && check(10)
}

/// Poland's PESEL: 11 digits with the date of birth.
pub(super) fn pesel(digits: &[u8]) -> bool {
    digits.len() == 11
        && is_day(digits[4] * 10 + digits[5])
        && matches!((digits[2] * 10 + digits[3]) % 20, 1..=12)
        && (weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1])).is_multiple_of(10)
}

/// The Netherlands' BSN: 9 digits.
pub(super) fn bsn(digits: &[u8]) -> bool {
    digits.len() == 9
        && digits.iter().any(|digit| *digit != 0)
        // The last digit counts −1, which modulo 11 is 10.
        && weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, 10]).is_multiple_of(11)
}

/// Germany's tax number for persons: 11 digits (ISO 7064, mod 11,10), the first not 0.
pub(super) fn steuer_id(digits: &[u8]) -> bool {
    if digits.len() != 11 || digits[0] == 0 {
        return false;
    }
    let product = digits[..10].iter().fold(10, |product, &digit| {
        let sum = match (u32::from(digit) + product) % 10 {
            0 => 10,
            sum => sum,
        };
        sum * 2 % 11
    });
    (11 - product) % 10 == u32::from(digits[10])
}

/// The United Kingdom's NHS number: 10 digits.
pub(super) fn nhs(digits: &[u8]) -> bool {
    digits.len() == 10
        && match 11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11 {
            11 => digits[9] == 0,
            check => check == u32::from(digits[9]),
        }
}

/// France's NIR: 13 digits and two that are 97 less the remainder.
pub(super) fn nir(digits: &[u8]) -> bool {
    digits.len() == 15
        && matches!(digits[0], 1 | 2)
        && matches!(digits[3] * 10 + digits[4], 1..=12 | 20..=42 | 50..=99)
        && 97 - remainder(&digits[..13], 97) == u32::from(digits[13]) * 10 + u32::from(digits[14])
}

/// Belgium's national number: 9 digits that begin with a date of birth, and two that are 97 less the
/// remainder; whoever is born after 1999 has a 2 before them.
pub(super) fn belgium(digits: &[u8]) -> bool {
    if digits.len() != 11 || digits[2] * 10 + digits[3] > 12 || digits[4] * 10 + digits[5] > 31 {
        return false;
    }
    let check = u32::from(digits[9]) * 10 + u32::from(digits[10]);
    let mut later = [2; 10];
    later[1..].copy_from_slice(&digits[..9]);
    97 - remainder(&digits[..9], 97) == check || 97 - remainder(&later, 97) == check
}

/// Sweden's personal number, without a century: a date of birth and four digits.
pub(super) fn sweden(digits: &[u8]) -> bool {
    // A coordination number has 60 added to the day.
    let day = digits.get(4..6).map_or(0, |day| day[0] * 10 + day[1]);
    digits.len() == 10
        && matches!(digits[2] * 10 + digits[3], 1..=12)
        && (is_day(day) || day > 60 && is_day(day - 60))
        && luhn(digits)
}

/// Finland's personal code: the nine digits, and the character that checks them.
pub(super) fn finland(digits: &[u8], check: u8) -> bool {
    const OF: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    digits.len() == 9
        && is_day(digits[0] * 10 + digits[1])
        && matches!(digits[2] * 10 + digits[3], 1..=12)
        && OF.get(remainder(digits, 31) as usize) == Some(&check)
}

/// Spain's DNI and NIE: eight digits and the letter that checks them. In a NIE the first digit
/// stands for X, Y or Z.
pub(super) fn spain(digits: &[u8], check: u8) -> bool {
    const OF: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    digits.len() == 8 && OF.get(remainder(digits, 23) as usize) == Some(&check)
}

/// China's resident number: 17 digits, with a date of birth, and a digit or X.
pub(super) fn china(digits: &[u8], check: u8) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const OF: &[u8; 11] = b"10X98765432";
    digits.len() == 17
        && matches!((digits[6], digits[7]), (1, 8 | 9) | (2, 0))
        && matches!(digits[10] * 10 + digits[11], 1..=12)
        && is_day(digits[12] * 10 + digits[13])
        && OF[(weighted(digits, &WEIGHTS) % 11) as usize] == check
}

/// India's Aadhaar: 12 digits, the first not 0 or 1, with Verhoeff's check.
pub(super) fn aadhaar(digits: &[u8]) -> bool {
    digits.len() == 12 && digits[0] > 1 && verhoeff(digits)
}

fn verhoeff(digits: &[u8]) -> bool {
    const TURN: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    // Multiplication in the dihedral group of order 10.
    let product = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let check = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |check, (at, &digit)| {
            let turned = (0..at % 8).fold(digit, |digit, _| TURN[usize::from(digit)]);
            product(check, turned)
        });
    check == 0
}

/// Italy's codice fiscale: the 16 characters, in capitals, of which the last checks the others.
pub(super) fn codice_fiscale(text: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    if text.len() != 16 {
        return false;
    }
    let mut sum = 0;
    for (at, &byte) in text[..15].iter().enumerate() {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A',
            _ => return false,
        };
        // Counted from 1, so the first is odd.
        sum += if at % 2 == 0 {
            ODD[usize::from(value)]
        } else {
            u32::from(value)
        };
    }
    u32::from(text[15]) == u32::from(b'A') + sum % 26
}

fn is_day(day: u8) -> bool {
    matches!(day, 1..=31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes()
            .filter(u8::is_ascii_digit)
            .map(|byte| byte - b'0')
            .collect()
    }

    /// The examples are those of the authorities that give the numbers out.
    #[test]
    fn published_examples_pass_and_fail_with_a_digit_changed() {
        type Check = fn(&[u8]) -> bool;
        let examples: [(&str, Check); 11] = [
            ("4111 1111 1111 1111", luhn),
            ("111.444.777-35", cpf),
            ("44051401359", pesel),
            ("111222333", bsn),
            ("86095742719", steuer_id),
            ("943 476 5919", nhs),
            ("2 55 08 14 168 025 38", nir),
            ("85.07.30-033.28", belgium),
            ("811228-9874", sweden),
            ("2341 2341 2346", aadhaar),
            ("378282246310005", luhn),
        ];
        for (text, check) in examples {
            let mut digits = digits(text);
            assert!(check(&digits), "{text}");
            let last = digits.len() - 1;
            digits[last] = (digits[last] + 1) % 10;
            assert!(!check(&digits), "{text}");
        }
    }

    #[test]
    fn numbers_with_letters_are_checked() {
        assert!(iban(b"GB29NWBK60161331926819") && !iban(b"GB29NWBK60161331926818"));
        assert!(iban(b"DE89370400440532013000") && !iban(b"DE88370400440532013000"));
        assert!(finland(&digits("131052308"), b'T') && !finland(&digits("131052308"), b'U'));
        assert!(spain(&digits("12345678"), b'Z') && !spain(&digits("12345678"), b'A'));
        assert!(
            china(&digits("11010519491231002"), b'X') && !china(&digits("11010519491231002"), b'1')
        );
        assert!(codice_fiscale(b"RSSMRA85T10A562S") && !codice_fiscale(b"RSSMRA85T10A562T"));
    }
}
