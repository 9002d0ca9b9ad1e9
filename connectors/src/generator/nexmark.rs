//! Nexmark: persons, auctions and bids of an auction site (Tucker et al., "NEXMark: A Benchmark for Queries over Data
//! Streams", 2002). Of 50 events 1 is a person, 3 are auctions and 46 are bids, a millisecond apart.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewBuilder, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::random::{below, mix, pick};
use super::records::{text, times, timestamp};

/// 2015-07-15T00:00:00Z.
const START_US: i64 = 1_436_918_400_000_000;
const EVENT_US: i64 = 1000;
/// Events that repeat the proportion.
const CYCLE: u64 = 50;
const AUCTIONS: u64 = 3;
const BIDS: u64 = 46;
const FIRST_ID: u64 = 1000;
/// How far back a bid or an auction looks for what it names.
const ACTIVE: u64 = 1000;

const FIRST: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody who sells or bids.
    Person,
    /// Something for sale.
    Auction,
    /// An offer.
    Bid,
}

const KINDS: [(Kind, &str); 3] = [(Kind::Person, "person"), (Kind::Auction, "auction"), (Kind::Bid, "bid")];

/// Columns of one kind.
pub(super) fn schema(kind: Kind) -> SchemaRef {
    let number = |name| Field::new(name, DataType::Int64, true);
    let word = |name| Field::new(name, DataType::Utf8View, true);
    let time = |name| Field::new(name, timestamp(), true);
    Arc::new(Schema::new(match kind {
        Kind::Person => vec![
            number("id"),
            word("name"),
            word("email_address"),
            word("credit_card"),
            word("city"),
            word("state"),
            time("date_time"),
            word("extra"),
        ],
        Kind::Auction => vec![
            number("id"),
            word("item_name"),
            word("description"),
            number("initial_bid"),
            number("reserve"),
            time("date_time"),
            time("expires"),
            number("seller"),
            number("category"),
            word("extra"),
        ],
        Kind::Bid => vec![
            number("auction"),
            number("bidder"),
            number("price"),
            word("channel"),
            word("url"),
            time("date_time"),
            word("extra"),
        ],
    }))
}

/// All kinds in one: `event_type`, `date_time`, and the columns of each kind with its name before them.
pub(super) fn all_schema() -> SchemaRef {
    let mut fields: Vec<FieldRef> = vec![
        Arc::new(Field::new("event_type", DataType::Utf8View, true)),
        Arc::new(Field::new("date_time", timestamp(), true)),
    ];
    for (kind, word) in KINDS {
        for field in schema(kind).fields().iter().filter(|f| f.name() != "date_time") {
            let name = format!("{word}_{}", field.name());
            fields.push(Arc::new(field.as_ref().clone().with_name(name)));
        }
    }
    Arc::new(Schema::new(fields))
}

fn kind_of(event: u64) -> Kind {
    match event % CYCLE {
        0 => Kind::Person,
        n if n <= AUCTIONS => Kind::Auction,
        _ => Kind::Bid,
    }
}

/// The event with which the `n`th of a kind comes.
fn event_of(kind: Kind, n: u64) -> u64 {
    match kind {
        Kind::Person => n * CYCLE,
        Kind::Auction => n / AUCTIONS * CYCLE + 1 + n % AUCTIONS,
        Kind::Bid => n / BIDS * CYCLE + 1 + AUCTIONS + n % BIDS,
    }
}

fn time_of(event: u64) -> i64 {
    START_US + event as i64 * EVENT_US
}

/// Id of a person who is there at an event; one of a hundred is asked for far more often than the others.
fn person(seed: u64, event: u64, salt: u64) -> u64 {
    some_of(seed, event, salt, event / CYCLE)
}

fn auction(seed: u64, event: u64, salt: u64) -> u64 {
    let newest = event / CYCLE * AUCTIONS + (event % CYCLE).clamp(1, AUCTIONS) - 1;
    some_of(seed, event, salt, newest)
}

fn some_of(seed: u64, event: u64, salt: u64, newest: u64) -> u64 {
    let hot = mix(seed, event, salt).is_multiple_of(2);
    let n =
        if hot { newest / 100 * 100 } else { newest - below(seed, event, salt + 1, newest.min(ACTIVE) + 1) };
    FIRST_ID + n
}

fn price(seed: u64, event: u64, salt: u64) -> i64 {
    // Evenly spread over six orders of magnitude.
    let exponent = below(seed, event, salt, 6_000_000) as f64 / 1e6;
    (10f64.powf(exponent) * 100.0) as i64
}

fn letters(seed: u64, event: u64, salt: u64, least: u64, most: u64, out: &mut String) {
    let mut state = mix(seed, event, salt);
    for n in 0..least + state % (most - least + 1) {
        if n % 12 == 0 {
            state = mix(state, event, n);
        }
        out.push(char::from(LETTERS[(state % 26) as usize]));
        state /= 26;
    }
}

/// One column of the `rows`th events of a kind.
pub(super) fn column(seed: u64, kind: Kind, name: &str, rows: Range<u64>) -> ArrayRef {
    let event = move |n: u64| event_of(kind, n);
    let numbers = |rows: Range<u64>, f: &dyn Fn(u64) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.map(|n| f(event(n)))))
    };
    match (kind, name) {
        (_, "date_time") => times(rows, |n| time_of(event(n))),
        (Kind::Auction, "expires") => times(rows, |n| {
            let seconds = 1 + below(seed, event(n), 21, 20);
            time_of(event(n)) + seconds as i64 * 1_000_000
        }),
        (Kind::Person, "id") => numbers(rows, &|e| (FIRST_ID + e / CYCLE) as i64),
        (Kind::Auction, "id") => numbers(rows, &|e| (FIRST_ID + e / CYCLE * AUCTIONS + e % CYCLE - 1) as i64),
        (Kind::Auction, "initial_bid") => numbers(rows, &|e| price(seed, e, 22)),
        (Kind::Auction, "reserve") => numbers(rows, &|e| price(seed, e, 22) + price(seed, e, 23)),
        (Kind::Auction, "seller") => numbers(rows, &|e| person(seed, e, 24) as i64),
        (Kind::Auction, "category") => numbers(rows, &|e| 10 + below(seed, e, 26, 5) as i64),
        (Kind::Bid, "auction") => numbers(rows, &|e| auction(seed, e, 31) as i64),
        (Kind::Bid, "bidder") => numbers(rows, &|e| person(seed, e, 33) as i64),
        (Kind::Bid, "price") => numbers(rows, &|e| price(seed, e, 35)),
        (_, name) => text(rows, |n, out| word(seed, kind, name, event(n), out)),
    }
}

fn word(seed: u64, kind: Kind, name: &str, event: u64, out: &mut String) {
    match (kind, name) {
        (Kind::Person, "name") => {
            out.push_str(pick(seed, event, 41, &FIRST));
            out.push(' ');
            out.push_str(pick(seed, event, 42, &LAST));
        }
        (Kind::Person, "email_address") => {
            letters(seed, event, 43, 3, 7, out);
            out.push('@');
            letters(seed, event, 44, 3, 5, out);
            out.push_str(".com");
        }
        (Kind::Person, "credit_card") => {
            for group in 0..4 {
                let digits = below(seed, event, 45 + group, 10_000);
                let space = if group == 0 { "" } else { " " };
                write!(out, "{space}{digits:04}").expect("a string takes all that is written to it");
            }
        }
        (Kind::Person, "city") => out.push_str(pick(seed, event, 51, &CITIES)),
        (Kind::Person, "state") => out.push_str(pick(seed, event, 52, &STATES)),
        (Kind::Auction, "item_name") => letters(seed, event, 53, 5, 20, out),
        (Kind::Auction, "description") => letters(seed, event, 54, 20, 100, out),
        (Kind::Bid, "channel") => out.push_str(pick(seed, event, 55, &CHANNELS)),
        (Kind::Bid, "url") => {
            out.push_str("https://www.nexmark.com/");
            letters(seed, event, 56, 3, 5, out);
            write!(out, "/item.htm?query=1&channel_id={}", below(seed, event, 57, 10_000))
                .expect("a string takes all that is written to it");
        }
        _ => letters(seed, event, 58, 10, 40, out),
    }
}

/// One column of all events in their order.
pub(super) fn all_column(seed: u64, name: &str, rows: Range<u64>) -> ArrayRef {
    if name == "event_type" {
        let mut builder = StringViewBuilder::new();
        for event in rows {
            let kind = kind_of(event);
            let word = KINDS.iter().find(|k| k.0 == kind).map_or("", |k| k.1);
            builder.append_value(word);
        }
        return Arc::new(builder.finish());
    }
    if name == "date_time" {
        let values: TimestampMicrosecondArray = rows.map(|e| Some(time_of(e))).collect();
        return Arc::new(values.with_timezone("UTC"));
    }
    let (word, inner) = name.split_once('_').unwrap_or((name, ""));
    let kind = KINDS.iter().find(|k| k.1 == word).map_or(Kind::Bid, |k| k.0);
    // The rows of this kind follow each other in a column of their own; the others are null.
    let first = (0..).map(|n| rows.start + n).take_while(|e| *e < rows.end).find(|e| kind_of(*e) == kind);
    let mut count = 0;
    let places: UInt32Array = rows
        .clone()
        .map(|event| {
            (kind_of(event) == kind).then(|| {
                count += 1;
                count - 1
            })
        })
        .collect();
    let start = first.map_or(0, |event| number_of(kind, event));
    let own = column(seed, kind, inner, start..start + u64::from(count));
    take(&own, &places, None).expect("the places lie within the column")
}

/// How many of a kind come before an event of this kind.
fn number_of(kind: Kind, event: u64) -> u64 {
    match kind {
        Kind::Person => event / CYCLE,
        Kind::Auction => event / CYCLE * AUCTIONS + event % CYCLE - 1,
        Kind::Bid => event / CYCLE * BIDS + event % CYCLE - 1 - AUCTIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;

    #[test]
    fn events_and_their_numbers_belong_together() {
        for (kind, _) in KINDS {
            for n in 0..200 {
                let event = event_of(kind, n);
                assert_eq!(kind_of(event), kind);
                assert_eq!(number_of(kind, event), n);
            }
        }
    }

    #[test]
    fn the_joint_stream_holds_the_same_rows_as_the_single_ones() {
        let joint = all_column(7, "bid_price", 100..300);
        let single = column(7, Kind::Bid, "price", 92..276);
        let joint = joint.as_primitive::<Int64Type>();
        let joint: Vec<i64> = joint.iter().flatten().collect();
        assert_eq!(joint, single.as_primitive::<Int64Type>().values().to_vec());
        assert_eq!(all_column(7, "person_name", 1..50).null_count(), 49);
    }

    #[test]
    fn bids_name_auctions_and_persons_that_are_there() {
        let bids = 0..5000;
        let auctions = column(7, Kind::Bid, "auction", bids.clone());
        for (n, auction) in bids.zip(auctions.as_primitive::<Int64Type>().values()) {
            let newest = event_of(Kind::Bid, n) / CYCLE * AUCTIONS + AUCTIONS - 1;
            assert!(*auction >= FIRST_ID as i64 && *auction <= (FIRST_ID + newest) as i64);
        }
    }
}
