//! The demo's letters: what a shop sends in a day, and a few things that a policy should stop.

/// One message for one recipient; lines end in `\n`.
pub struct Letter {
    pub from: String,
    pub to: String,
    pub content: String,
}

const PEOPLE: [&str; 10] = ["ada", "bela", "chidi", "dora", "emil", "farah", "goran", "hana", "ivo", "jun"];
const DOMAINS: [&str; 6] =
    ["gmail.example", "outlook.example", "web.example", "uni.example", "post.example", "corp.example"];

/// `count` letters in a fixed mixture, so that two runs show the same.
pub fn make(count: u32) -> Vec<Letter> {
    (0..count).map(letter).collect()
}

fn letter(at: u32) -> Letter {
    let person = PEOPLE[at as usize % PEOPLE.len()];
    let domain = DOMAINS[(at / 3) as usize % DOMAINS.len()];
    let to = format!("{person}@{domain}");
    match at % 20 {
        3 => build(at, "news@shop.example", &format!("{person}@slow.example"), "Newsletter: autumn at the shop", NEWS),
        7 => build(at, "orders@shop.example", &format!("{person}@closed.example"), "Your order is on its way", RECEIPT),
        11 => build(at, "win@spammer.example", &to, "You have won", "Click here.\n"),
        13 => build(at, "orders@shop.example", &format!("nobody@{domain}"), "Your order is on its way", RECEIPT),
        17 => build(at, "orders@shop.example", &to, "[test] please ignore", "A test.\n"),
        even if even % 2 == 0 => build(at, "news@shop.example", &to, "Newsletter: autumn at the shop", NEWS),
        1 | 5 | 9 => {
            build(at, "login@shop.example", &to, "Your code", "Your code is 402117. It is good for ten minutes.\n")
        }
        _ => build(at, "orders@shop.example", &to, "Your order is on its way", RECEIPT),
    }
}

fn build(at: u32, from: &str, to: &str, subject: &str, body: &str) -> Letter {
    let content = format!(
        "From: The Shop <{from}>\nTo: {to}\nSubject: {subject}\nDate: Wed, 25 Nov 2026 10:{:02}:{:02} +0000\n\
         Message-ID: <demo.{at}@shop.example>\nX-Internal-Route: rack-{}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{body}",
        at / 60 % 60,
        at % 60,
        at % 4
    );
    Letter { from: from.to_owned(), to: to.to_owned(), content }
}

const NEWS: &str = "Good morning,\n\nthe apples are in: forty kinds this year, from Antonovka to Zuccalmaglio.\nCome by, or \
                    order at https://shop.example/apples.\n\n..and yes, there is cider again.\n\nYour shop\n";

const RECEIPT: &str = "Thank you for your order.\n\n  2 x notebook, ruled        9,80 \u{20ac}\n  1 x ink, K\u{f6}nigsblau       \
                       6,50 \u{20ac}\n  ------------------------------\n  total                     16,30 \u{20ac}\n\nIt left our \
                       house today.\n";
