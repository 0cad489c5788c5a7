//! Definition files. The first byte says the format (`j` JSON, `t` TOML, `p` Python, others YAML), the rest is the
//! file. What is taken is written back and must read as the same; what is refused is told with places in the file.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ostler_timetable::{Format, LoadOptions, export_yaml, load_text};

// The executors and the comparison of this crate's own tests.
#[path = "../../crates/timetable/tests/support/mod.rs"]
mod support;

static OPTIONS: LazyLock<LoadOptions> = LazyLock::new(support::options);

fuzz_target!(|data: &[u8]| {
    let Some((first, text)) = data.split_first() else { return };
    let format = match first {
        b'j' => Format::Json,
        b't' => Format::Toml,
        b'p' => Format::Python,
        _ => Format::Yaml,
    };
    match load_text(text, "a", format, &OPTIONS) {
        Ok(loaded) => {
            let timetable = &loaded.timetables[0];
            let written = export_yaml(timetable);
            match load_text(written.as_bytes(), "-", Format::Yaml, &OPTIONS) {
                Ok(again) => assert_eq!(
                    support::placeless(again.timetables[0].clone()),
                    support::placeless(timetable.clone()),
                    "{written}"
                ),
                Err(found) => panic!("what was written back is refused:\n{written}\n{found}"),
            }
        }
        Err(found) => {
            assert!(!found.items.is_empty());
            for item in &found.items {
                assert!(!item.message.is_empty());
                assert!(item.span.start <= item.span.end && item.span.end <= text.len(), "{item:?}");
            }
            assert!(!found.render(false).is_empty());
        }
    }
});
