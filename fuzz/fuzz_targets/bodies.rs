//! What the HTTP interface reads: JSON bodies and query strings. The first byte says which type; what reads is written
//! and must read as the same.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use ostler_api::{
    BulkFilter, FireRequest, NewToken, RerunRequest, RetentionPolicy, RunQuery, Scope, SignalRequest,
    StartRequest, Verdict,
    bodies::{RetryMany, StartMany},
    wire::{
        DefinitionsParams, EventsParams, HistoryParams, LogsParams, NamespacesParams, PushParams,
        ResolveParams, RunsParams, ScheduleParams, SchedulesParams, TokensParams, TriggersParams,
    },
};
use ostler_model::{TaskDef, definition::Policy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    match first {
        b'a' => json::<StartRequest>(rest),
        b'b' => json::<StartMany>(rest),
        b'c' => json::<BulkFilter>(rest),
        b'd' => json::<RetryMany>(rest),
        b'e' => json::<RerunRequest>(rest),
        b'f' => json::<RetentionPolicy>(rest),
        b'g' => json::<NewToken>(rest),
        b'h' => json::<SignalRequest>(rest),
        b'i' => json::<Verdict>(rest),
        b'j' => json::<FireRequest>(rest),
        b'k' => json::<Policy>(rest),
        b'l' => json::<RunQuery>(rest),
        b'm' => json::<TaskDef>(rest),
        b'n' => json::<Vec<Scope>>(rest),
        b'o' => json::<Value>(rest),
        b'A' => query::<NamespacesParams>(rest, |q| {
            assert_eq!(NamespacesParams::from(&q.page()).page(), q.page())
        }),
        b'B' => query::<DefinitionsParams>(rest, |q| drop(q.page())),
        b'C' => query::<SchedulesParams>(rest, |q| drop(q.page())),
        b'D' => query::<RunsParams>(rest, |q| {
            let (query, page) = q.clone().read();
            assert_eq!(RunsParams::new(&query, &page).read(), (query, page));
        }),
        b'E' => query::<EventsParams>(rest, |_| ()),
        b'F' => query::<HistoryParams>(rest, |_| ()),
        b'G' => query::<LogsParams>(rest, |q| {
            let request = q.clone().request();
            assert_eq!(LogsParams::new(&request, 1).request(), request);
        }),
        b'H' => query::<ResolveParams>(rest, |_| ()),
        b'I' => query::<ScheduleParams>(rest, |_| ()),
        b'J' => query::<PushParams>(rest, |_| ()),
        b'K' => query::<TriggersParams>(rest, |q| drop(q.page())),
        b'L' => query::<TokensParams>(rest, |_| ()),
        _ => query::<Vec<(String, String)>>(rest, |_| ()),
    }
});

fn json<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
    let written = serde_json::to_string(&read).expect("what was read can be written");
    match serde_json::from_str::<T>(&written) {
        Ok(again) => assert_eq!(again, read, "{written}"),
        Err(error) => panic!("what was written does not read: {error}\n{written}"),
    }
}

fn query<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8], look: impl Fn(&T)) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = serde_urlencoded::from_str::<T>(text) else { return };
    look(&read);
    let written = serde_urlencoded::to_string(&read).expect("what was read can be written");
    match serde_urlencoded::from_str::<T>(&written) {
        Ok(again) => assert_eq!(again, read, "{written}"),
        Err(error) => panic!("what was written does not read: {error}\n{written}"),
    }
}
