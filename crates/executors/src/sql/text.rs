//! The text of a script: where one statement ends and the next begins, and its parameters.
//!
//! Servers take one statement at a time when it has parameters, and know parameters by number or place only. So a
//! script is cut at its semicolons, and `:name` becomes `$1` or `?`. Neither is looked for in texts, quoted names,
//! comments and dollar quotes; a semicolon inside the body of a routine or trigger ends nothing.

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Parameters are left as they are: SQLite knows names.
    Sqlite,
    Postgres,
    #[cfg_attr(not(feature = "mysql"), allow(dead_code, reason = "only its server speaks it"))]
    Mysql,
}

/// One statement of a script.
#[derive(Debug, PartialEq)]
pub(super) struct Statement<'a> {
    /// As it stands there, without its semicolon.
    pub(super) text: &'a str,
    /// As the server gets it.
    pub(super) sql: String,
    /// The names of its parameters: one for each number (PostgreSQL) or for each place (MySQL).
    pub(super) names: Vec<&'a str>,
    /// Where it begins in the script, in bytes; MySQL counts lines without the space before it.
    start: usize,
    /// What was put in instead of names: where in `sql`, how long there, how long in the script.
    edits: Vec<(usize, usize, usize)>,
}

/// What stands at a place of a script.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    /// A keyword or a plain name.
    Word,
    /// A name after a colon.
    Parameter,
    Semicolon,
    Open(u8),
    Close(u8),
    /// Space and comments.
    Nothing,
    Other,
}

/// Words after `create` that begin what has a body with semicolons in it.
const ROUTINES: [&str; 5] = ["function", "procedure", "trigger", "event", "package"];
/// Words after `create` of what has none.
const OTHERS: [&str; 20] = [
    "table",
    "view",
    "index",
    "unique",
    "schema",
    "database",
    "user",
    "role",
    "type",
    "sequence",
    "materialized",
    "recursive",
    "unlogged",
    "rule",
    "server",
    "domain",
    "extension",
    "foreign",
    "policy",
    "virtual",
];

/// The statements of a script; those without a word in them are none.
pub(super) fn split(script: &str, dialect: Dialect) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut cutter = Cutter::new(script, 0);
    let mut at = 0;
    while at < script.len() {
        let (token, end) = token(script, at, dialect);
        if token == Token::Semicolon && cutter.is_outside(dialect) {
            statements.extend(cutter.end(script, at));
            cutter = Cutter::new(script, end);
        } else {
            cutter.take(script, token, at, end, dialect);
        }
        at = end;
    }
    statements.extend(cutter.end(script, script.len()));
    statements
}

impl Statement<'_> {
    /// Line and column in the script of what the server knows as the character of this number, from 1.
    pub(super) fn place(&self, script: &str, character: usize) -> (usize, usize) {
        let at =
            self.sql.char_indices().nth(character.saturating_sub(1)).map_or(self.sql.len(), |(at, _)| at);
        let mut before = at;
        for (place, here, there) in self.edits.iter().rev() {
            if at >= place + here {
                before = before - here + there;
            } else if at > *place {
                before = *place;
            }
        }
        let before = script.get(..self.start + before).unwrap_or(script);
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
    }
}

/// A statement while it is read.
struct Cutter<'a> {
    start: usize,
    sql: String,
    names: Vec<&'a str>,
    edits: Vec<(usize, usize, usize)>,
    /// How far the script is in `sql`.
    copied: usize,
    /// Whether there is anything but space and comments, and where it begins.
    first: Option<usize>,
    /// The word before, in small letters.
    last_word: String,
    head: Head,
    parentheses: usize,
    brackets: usize,
    /// Open `begin` and `case`.
    blocks: usize,
}

/// What the first words of a statement say of it.
#[derive(PartialEq)]
enum Head {
    Unknown,
    Create,
    Routine,
    Plain,
}

impl<'a> Cutter<'a> {
    fn new(script: &str, after: usize) -> Self {
        let start = script.len() - script[after..].trim_start().len();
        Self {
            start,
            sql: String::new(),
            names: Vec::new(),
            edits: Vec::new(),
            copied: start,
            first: None,
            last_word: String::new(),
            head: Head::Unknown,
            parentheses: 0,
            brackets: 0,
            blocks: 0,
        }
    }

    /// Whether a semicolon ends the statement. A rule of PostgreSQL has some in parentheses.
    fn is_outside(&self, dialect: Dialect) -> bool {
        self.blocks == 0 && (dialect != Dialect::Postgres || self.parentheses == 0)
    }

    fn take(&mut self, script: &'a str, token: Token, at: usize, end: usize, dialect: Dialect) {
        if token != Token::Nothing {
            self.first.get_or_insert(at);
        }
        match token {
            Token::Word => self.word(script, at, end),
            Token::Open(b'(') => self.parentheses += 1,
            Token::Close(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            Token::Open(_) => self.brackets += 1,
            Token::Close(_) => self.brackets = self.brackets.saturating_sub(1),
            // `list[a:b]` is a slice.
            Token::Parameter if self.brackets > 0 && follows_value(script, at) => {}
            Token::Parameter => self.parameter(script, at, end, dialect),
            Token::Semicolon | Token::Nothing | Token::Other => {}
        }
    }

    fn word(&mut self, script: &str, at: usize, end: usize) {
        let word = script[at..end].to_ascii_lowercase();
        self.head = match (&self.head, word.as_str()) {
            (Head::Unknown, "create") => Head::Create,
            (Head::Unknown, _) => Head::Plain,
            (Head::Create, word) if ROUTINES.contains(&word) => Head::Routine,
            (Head::Create, word) if OTHERS.contains(&word) => Head::Plain,
            (Head::Create, _) => Head::Create,
            (Head::Routine, _) => Head::Routine,
            (Head::Plain, _) => Head::Plain,
        };
        if self.head == Head::Routine {
            match word.as_str() {
                // `end case` closes one.
                "begin" | "case" if self.last_word != "end" => self.blocks += 1,
                "end" if !closes_uncounted(&script[end..]) => self.blocks = self.blocks.saturating_sub(1),
                _ => {}
            }
        }
        self.last_word = word;
    }

    fn parameter(&mut self, script: &'a str, at: usize, end: usize, dialect: Dialect) {
        let name = &script[at + 1..end];
        let number = match dialect {
            Dialect::Sqlite => return,
            Dialect::Mysql => {
                self.names.push(name);
                None
            }
            Dialect::Postgres => {
                let known = self.names.iter().position(|n| *n == name);
                Some(
                    1 + known.unwrap_or_else(|| {
                        self.names.push(name);
                        self.names.len() - 1
                    }),
                )
            }
        };
        self.sql += &script[self.copied..at];
        let begin = self.sql.len();
        match number {
            Some(number) => self.sql += &format!("${number}"),
            None => self.sql.push('?'),
        }
        self.edits.push((begin, self.sql.len() - begin, end - at));
        self.copied = end;
    }

    fn end(mut self, script: &'a str, end: usize) -> Option<Statement<'a>> {
        self.first?;
        self.sql += &script[self.copied..end];
        let text = &script[self.start..end];
        Some(Statement {
            text: text.trim(),
            sql: self.sql,
            names: self.names,
            start: self.start,
            edits: self.edits,
        })
    }
}

/// `end if`, `end loop` and the like close what is not counted.
fn closes_uncounted(rest: &str) -> bool {
    let word: String = rest.trim_start().chars().take_while(char::is_ascii_alphanumeric).collect();
    ["if", "loop", "while", "repeat", "for"].iter().any(|closed| word.eq_ignore_ascii_case(closed))
}

fn follows_value(script: &str, at: usize) -> bool {
    script[..at].bytes().last().is_some_and(|b| is_word(b) || matches!(b, b')' | b']' | b'"'))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

fn begins_word(byte: u8) -> bool {
    is_word(byte) && !byte.is_ascii_digit() && byte != b'$'
}

/// The token at a place, and where it ends.
fn token(script: &str, at: usize, dialect: Dialect) -> (Token, usize) {
    let bytes = script.as_bytes();
    let rest = &bytes[at..];
    let next = |n: usize| rest.get(n).copied();
    let after = |n: usize| (Token::Other, at + n);
    let mysql = dialect == Dialect::Mysql;
    match rest[0] {
        b'-' if next(1) == Some(b'-') && (!mysql || next(2).is_none_or(|b| b <= b' ')) => line(bytes, at),
        b'#' if mysql => line(bytes, at),
        b'/' if next(1) == Some(b'*') => (Token::Nothing, comment(bytes, at, dialect == Dialect::Postgres)),
        b'\'' => (Token::Other, quoted(bytes, at, mysql)),
        b'"' => (Token::Other, quoted(bytes, at, mysql)),
        b'`' if dialect != Dialect::Postgres => (Token::Other, quoted(bytes, at, false)),
        b'[' if dialect == Dialect::Sqlite => (Token::Other, quoted_to(bytes, at, b']')),
        b'e' | b'E' if dialect == Dialect::Postgres && next(1) == Some(b'\'') => {
            (Token::Other, quoted(bytes, at + 1, true))
        }
        b'$' if dialect == Dialect::Postgres => match dollar_quote(script, at) {
            Some(end) => (Token::Other, end),
            None => after(1),
        },
        b':' if next(1).is_some_and(begins_word) => (Token::Parameter, word_end(bytes, at + 1)),
        b':' if matches!(next(1), Some(b':' | b'=')) => after(2),
        b';' => (Token::Semicolon, at + 1),
        open @ (b'(' | b'[') => (Token::Open(open), at + 1),
        close @ (b')' | b']') => (Token::Close(close), at + 1),
        b if begins_word(b) => (Token::Word, word_end(bytes, at)),
        b if is_word(b) => (Token::Other, word_end(bytes, at)),
        b if b.is_ascii_whitespace() => (Token::Nothing, at + 1),
        _ => after(1),
    }
}

fn word_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| !is_word(*b)).map_or(bytes.len(), |n| at + n)
}

fn line(bytes: &[u8], at: usize) -> (Token, usize) {
    (Token::Nothing, memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n + 1))
}

fn comment(bytes: &[u8], at: usize, nested: bool) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") && (depth == 0 || nested) {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(bytes.len())
}

/// The end of what is quoted by the character at `at`. A doubled one is two texts side by side, which is as good.
fn quoted(bytes: &[u8], at: usize, backslashes: bool) -> usize {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if backslashes => end += 2,
            b if b == bytes[at] => return end + 1,
            _ => end += 1,
        }
    }
    bytes.len()
}

fn quoted_to(bytes: &[u8], at: usize, close: u8) -> usize {
    memchr::memchr(close, &bytes[at..]).map_or(bytes.len(), |n| at + n + 1)
}

/// `$$ … $$` or `$tag$ … $tag$`; a `$1` is neither.
fn dollar_quote(script: &str, at: usize) -> Option<usize> {
    let tag_end = at + 1 + script[at + 1..].find('$')?;
    let tag = &script[at + 1..tag_end];
    let is_tag = tag.bytes().all(is_word) && tag.bytes().next().is_none_or(begins_word);
    if !is_tag {
        return None;
    }
    let fence = &script[at..=tag_end];
    let close = script[tag_end + 1..].find(fence);
    Some(close.map_or(script.len(), |n| tag_end + 1 + n + fence.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str, dialect: Dialect) -> Vec<&str> {
        split(script, dialect).iter().map(|s| s.text).collect()
    }

    fn postgres(script: &str) -> (String, Vec<&str>) {
        let mut statements = split(script, Dialect::Postgres);
        assert_eq!(statements.len(), 1, "{script}");
        let statement = statements.remove(0);
        (statement.sql, statement.names)
    }

    #[test]
    fn names_become_numbers_where_they_are_parameters() {
        for (script, sql, names) in [
            ("select :a, :b, :a", "select $1, $2, $1", vec!["a", "b"]),
            ("select :n::int, x::text", "select $1::int, x::text", vec!["n"]),
            (
                "select ':a', \":b\", E'\\':c', 'it''s :d'",
                "select ':a', \":b\", E'\\':c', 'it''s :d'",
                vec![],
            ),
            ("select /* :a /* :b */ :c */ 1 -- :d", "select /* :a /* :b */ :c */ 1 -- :d", vec![]),
            ("select $$ :a $$, $x$ :b $$ $x$, :c", "select $$ :a $$, $x$ :b $$ $x$, $1", vec!["c"]),
            ("select l[1:n], l[:i], l[a:b]", "select l[1:n], l[$1], l[a:b]", vec!["i"]),
            ("select a := :größe", "select a := $1", vec!["größe"]),
            ("select 'größe', :x", "select 'größe', $1", vec!["x"]),
        ] {
            assert_eq!(postgres(script), (sql.to_owned(), names), "{script}");
        }
        let mysql = split("select :a, :b, :a, `:c`, \"x\\\":d\" # :e\n, '--', 3--:f", Dialect::Mysql);
        assert_eq!(mysql[0].sql, "select ?, ?, ?, `:c`, \"x\\\":d\" # :e\n, '--', 3--?");
        assert_eq!(mysql[0].names, ["a", "b", "a", "f"]);
    }

    #[test]
    fn statements_end_where_the_server_would_end_them() {
        let script =
            "select 'a;b'; -- one; two\nselect \"x;\" /* ; */ from t;;\n insert into t values (1); -- end";
        let cut = ["select 'a;b'", "-- one; two\nselect \"x;\" /* ; */ from t", "insert into t values (1)"];
        for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql] {
            assert_eq!(texts(script, dialect), cut, "{dialect:?}");
        }
        assert_eq!(texts("select $$a;b$$; do $x$ begin; end $x$;", Dialect::Postgres).len(), 2);
        assert_eq!(texts("select [a;b]; select 1", Dialect::Sqlite).len(), 2);
        assert_eq!(
            texts("create rule r as on insert to t do (select 1; select 2); select 3", Dialect::Postgres)
                .len(),
            2
        );
        assert_eq!(texts("select 'open; select 2", Dialect::Postgres).len(), 1);
        assert!(texts(" ; -- nothing\n;", Dialect::Postgres).is_empty());
    }

    #[test]
    fn bodies_of_routines_hold_together() {
        let trigger = "create temp trigger t after insert on a begin update b set c = case when d then 1 end; delete from e; end";
        assert_eq!(texts(&format!("{trigger}; select 1"), Dialect::Sqlite), [trigger, "select 1"]);
        let procedure = "create or replace definer=root@localhost procedure p(n int) begin if n > 1 then select 1; end if; \
             case n when 2 then select 2; end case; while n > 0 do set n = n - 1; end while; end";
        assert_eq!(texts(&format!("{procedure}; select 1;"), Dialect::Mysql), [procedure, "select 1"]);
        let atomic =
            "create function f() returns int begin atomic select 1; select case when true then 2 end; end";
        assert_eq!(texts(&format!("{atomic}; select 1;"), Dialect::Postgres), [atomic, "select 1"]);
        let table = "create table event (begin int, \"end\" int); insert into event values (1, 2)";
        assert_eq!(texts(table, Dialect::Postgres).len(), 2);
        assert_eq!(texts("begin; select 1; end", Dialect::Postgres).len(), 3);
    }

    #[test]
    fn a_place_in_what_was_sent_is_one_in_the_script() {
        let script = "select 1;\nselect :größe,\n  :x, wrong";
        let statement = &split(script, Dialect::Postgres)[1];
        let at = statement.sql[..statement.sql.find("wrong").unwrap()].chars().count() + 1;
        assert_eq!(statement.place(script, at), (3, 7));
        assert_eq!(statement.place(script, 1), (2, 1));
        assert_eq!(statement.place(script, 8), (2, 8));
        assert_eq!(statement.place(script, 10_000), (3, 12));
    }
}
