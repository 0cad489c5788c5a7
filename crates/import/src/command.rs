//! What can be told from a command line without running it: its words, and which program it is about.

/// Programs that run the one which follows them: options of theirs that take a value, and how many words of their own
/// come before the program.
const WRAPPERS: &[(&str, &[&str], usize)] = &[
    ("nice", &["-n"], 0),
    ("ionice", &["-c", "-n", "-p"], 0),
    ("chrt", &["-p"], 1),
    ("taskset", &[], 1),
    ("sudo", &["-u", "-g", "-C", "-h"], 0),
    ("doas", &["-u"], 0),
    ("runuser", &["-u", "-g"], 0),
    ("flock", &["-w", "-E"], 1),
    ("timeout", &["-k", "-s"], 1),
    ("env", &["-u", "-C"], 0),
    ("nohup", &[], 0),
    ("exec", &[], 0),
    ("time", &[], 0),
    ("setsid", &[], 0),
    ("chronic", &[], 0),
    ("cronic", &[], 0),
    ("run-one", &[], 0),
    ("systemd-cat", &["-t", "-p"], 0),
    ("then", &[], 0),
    ("else", &[], 0),
    ("do", &[], 0),
    ("!", &[], 0),
];

/// Words that say something about what follows, and are not what the line is about.
const PREPARATIONS: &[&str] = &[
    "cd", "pushd", "test", "[", "[[", "command", "type", "which", "set", "export", "source", ".", ":",
    "true", "umask", "ulimit", "mkdir", "if", "fi", "while", "for", "done", "sleep", "unset", "}", ")", "",
];

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "su"];
const INTERPRETERS: &[&str] = &["perl", "ruby", "php", "node", "Rscript", "java", "lua"];

/// How deep commands within commands are looked into.
const DEPTH: usize = 4;

/// The name of the program that a command is about, without folder and suffix.
pub(crate) fn program(command: &str) -> String {
    find(command, DEPTH).unwrap_or_default()
}

fn find(command: &str, depth: usize) -> Option<String> {
    let mut first = None;
    for segment in segments(command) {
        let words = words(&segment);
        let Some((name, rest)) = unwrapped(&words) else { continue };
        let base = base(name);
        if PREPARATIONS.contains(&base) {
            continue;
        }
        let inner = within(base, rest, depth);
        // An `echo` that feeds a pipe and a line of Perl that waits are the answer only when there is no other.
        let is_help =
            matches!(base, "echo" | "printf" | "cat" | "yes") || inner.is_none() && is_interpreter(base);
        let found = inner.unwrap_or_else(|| without_suffix(base).to_owned());
        if is_help {
            first = first.or(Some(found));
            continue;
        }
        return Some(found);
    }
    first
}

/// The command without assignments and wrappers.
fn unwrapped(words: &[String]) -> Option<(&str, &[String])> {
    let mut rest = words;
    loop {
        let (word, after) = rest.split_first()?;
        if is_assignment(word) {
            rest = after;
            continue;
        }
        let Some((_, valued, own)) = WRAPPERS.iter().find(|(name, ..)| *name == base(word)) else {
            return Some((word, after));
        };
        rest = after;
        let mut own = *own;
        while let Some((word, after)) = rest.split_first() {
            if valued.contains(&word.as_str()) {
                rest = after.get(1..).unwrap_or_default();
            } else if word.starts_with('-') && word.len() > 1 {
                rest = after;
            } else if own > 0 {
                own -= 1;
                rest = after;
            } else {
                break;
            }
        }
    }
}

/// What a shell, an interpreter or `run-parts` runs.
fn within(base: &str, rest: &[String], depth: usize) -> Option<String> {
    let is_python = is_python(base);
    if base == "run-parts" {
        let folder = rest.iter().rfind(|w| !w.starts_with('-'))?;
        return Some(folder.trim_end_matches('/').rsplit('/').next()?.to_owned()).filter(|f| !f.is_empty());
    }
    if !is_interpreter(base) {
        return None;
    }
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" if is_python => return words.next().cloned(),
            "-jar" | "-f" => return words.next().map(|w| without_suffix(self::base(w)).to_owned()),
            option if option.starts_with('-') && option.ends_with('c') && SHELLS.contains(&base) => {
                return find(words.next()?, depth.checked_sub(1)?);
            }
            // The rest is code.
            "-e" | "-c" | "-r" if !SHELLS.contains(&base) => return None,
            option if option.starts_with('-') => {}
            _ if base == "su" => {}
            script => return Some(without_suffix(self::base(script)).to_owned()),
        }
    }
    None
}

fn is_python(base: &str) -> bool {
    base.starts_with("python") || base.starts_with("pypy")
}

fn is_interpreter(base: &str) -> bool {
    is_python(base) || SHELLS.contains(&base) || INTERPRETERS.contains(&base)
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn without_suffix(name: &str) -> &str {
    const SUFFIXES: &[&str] =
        &[".sh", ".bash", ".py", ".pl", ".rb", ".php", ".js", ".mjs", ".jar", ".R", ".cgi"];
    SUFFIXES.iter().find_map(|s| name.strip_suffix(s)).filter(|n| !n.is_empty()).unwrap_or(name)
}

/// `NAME=value`.
pub(crate) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| is_variable(name))
}

/// Whether a text can be the name of a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether an `sh -e` could end a script earlier than `sh` does.
pub(crate) fn has_several_commands(command: &str) -> bool {
    let mut before = ' ';
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ';' | '\n' => return true,
            // `&&` and redirections such as `2>&1` and `&>` join nothing.
            '&' if before != '&' && before != '>' && !matches!(chars.peek(), Some('&' | '>')) => return true,
            _ => {}
        }
        before = c;
    }
    false
}

/// The simple commands of a line: it is cut where a shell would end one, outside of quotes. What stands in `$( )` is
/// for another command, and left out.
fn segments(command: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quote = None;
    let mut chars = command.chars().peekable();
    let mut substituted = 0u32;
    while let Some(c) = chars.next() {
        if substituted > 0 || c == '$' && chars.peek() == Some(&'(') {
            match c {
                '$' if substituted == 0 => {
                    chars.next();
                    substituted = 1;
                }
                '(' => substituted += 1,
                ')' => substituted -= 1,
                _ => {}
            }
            continue;
        }
        let ends = quote.is_none() && matches!(c, ';' | '|' | '&' | '\n' | '(' | ')' | '{' | '}' | '`');
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            _ => {}
        }
        if ends {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push(c);
            if c == '\\' && quote != Some('\'') {
                last.extend(chars.next());
            }
        }
    }
    all
}

/// Words of a command as a shell cuts them, without their quotes; what is not closed ends with the text.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_command_is_found() {
        for (command, name) in [
            ("/usr/local/bin/backup.sh --all", "backup"),
            (
                "test -x /usr/bin/certbot -a \\! -d /run/systemd/system && perl -e 'sleep int(rand(43200))' && certbot -q renew",
                "certbot",
            ),
            ("perl -e 'print 1'", "perl"),
            ("cd / && run-parts --report /etc/cron.hourly", "cron.hourly"),
            ("test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }", "cron.daily"),
            ("nice -n 19 ionice -c3 /opt/sync.py", "sync"),
            ("FOO=1 BAR='a b' python3 -m app.jobs", "app.jobs"),
            ("bash -lc 'cd /srv && ./nightly.sh'", "nightly"),
            ("flock -n /tmp/l -c /bin/x", "x"),
            ("su - www -c 'php -f /srv/cron.php'", "cron"),
            (
                "[ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi",
                "sessionclean",
            ),
            ("echo hi | mail root", "mail"),
            ("if [ -x /usr/bin/a ] && [ $(date +%d) -le 7 ]; then /usr/bin/a --all; fi", "a"),
            ("echo hi", "echo"),
            ("", ""),
        ] {
            assert_eq!(program(command), name, "{command}");
        }
    }

    #[test]
    fn several_commands_are_seen() {
        for (command, several) in
            [("a && b", false), ("a >x 2>&1", false), ("a &> x", false), ("a; b", true), ("a & b", true)]
        {
            assert_eq!(has_several_commands(command), several, "{command}");
        }
    }
}
