//! Rules for every text file: first line, length, forbidden constructs.

/// The longest file, in lines.
const MAX_LINES: usize = 600;

/// The only files with `unsafe` code, where it is documented: calls of the system, and of our own C++.
const UNSAFE_FILES: [&str; 2] = ["crates/irepair-model/src/sys.rs", "crates/irepair-torch/src/lib.rs"];

/// Crates that read numbers from the device by `irepair_model::host::numbers` alone, so that a test can count the
/// waits.
const NO_READS: [&str; 2] = ["crates/irepair-train/src/", "crates/irepair-sensitivity/src/"];

/// Ways to read a tensor's numbers.
const READS: [&str; 6] =
    ["double_value", "int64_value", ">::try_from(", "f64::try_from(", "f32::try_from(", "bool::try_from("];

/// Directories of one machine.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

// In two parts, so that this file does not match.
const TO_DO: &str = concat!("TO", "DO");
const ALLOW: &str = concat!("#[al", "low(");
const UNSAFE: &str = concat!("uns", "afe");
const NN: &str = concat!("tch::", "nn");
const VAR_STORE: &str = concat!("Var", "Store");

/// Violations of one file; `name` is its path from the root, with `/`.
pub(super) fn violations(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        found.extend(of_line(line).into_iter().map(|what| format!("line {}: {what}", i + 1)));
    }
    if name.ends_with(".rs") {
        if !text.starts_with("//! ") {
            found.push("must open with a `//!` line".to_owned());
        }
        let n_lines = text.lines().count();
        if n_lines > MAX_LINES {
            found.push(format!("{n_lines} lines, over {MAX_LINES}: split it by topic"));
        }
        found.extend(of_code(name, text));
    }
    found
}

/// Forbidden in every line of every file.
fn of_line(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in MACHINE_PATHS.iter().filter(|path| line.contains(**path)) {
        found.push(format!("a path of one machine, `{path}`"));
    }
    if let Some((_, rest)) = line.split_once(TO_DO)
        && !rest.starts_with('(')
    {
        found.push(format!("a {TO_DO} without an owner: write {TO_DO}(name)"));
    }
    found
}

/// Forbidden in Rust code.
fn of_code(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |i: usize, what: &str| found.push(format!("line {}: {what}", i + 1));
    let n_without_tests = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    for (i, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let counts_waits = i < n_without_tests && NO_READS.iter().any(|dir| name.starts_with(dir));
        if counts_waits && READS.iter().any(|read| code.contains(read)) {
            say(i, "a number read from a tensor: collect scalars and use irepair_model::host::numbers");
        }
        // The reason may be in one of the next lines of the attribute.
        let attribute = || text.lines().skip(i).take(6).collect::<String>();
        if code.contains(ALLOW) && !attribute().split(")]").next().is_some_and(|inner| inner.contains("reason =")) {
            say(i, "a lint switched off without a reason: use #[expect(lint, reason = \"...\")]");
        }
        let words = || code.split(|c: char| !c.is_alphanumeric() && c != '_');
        if !UNSAFE_FILES.contains(&name) && words().any(|word| word == UNSAFE) {
            say(i, &format!("{UNSAFE} code outside {}", UNSAFE_FILES.join(" and ")));
        }
        if code.contains(NN) || words().any(|word| word == VAR_STORE) {
            say(i, &format!("{NN} or {VAR_STORE}: a Tensor is just a value here"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_checked() {
        let check = |text: &str| violations("crates/x/src/lib.rs", text).join("; ");
        assert_eq!(check("//! Fine.\nfn f() {}\n"), "");
        assert_eq!(check("fn f() {}\n"), "must open with a `//!` line");
        assert!(check(&format!("//! Long.\n{}", "\n".repeat(600))).starts_with("601 lines, over 600"));
        assert!(check(&format!("//! x\n{UNSAFE} {{}}\n")).starts_with("line 2: "));
        assert!(check(&format!("//! x\nuse {NN};\n")).starts_with("line 2: "));
        assert!(check(&format!("//! x\n{ALLOW}dead_code)]\n")).starts_with("line 2: "));
        assert_eq!(check(&format!("//! x\n{ALLOW}dead_code, reason = \"y\")]\n")), "");
        assert!(check(&format!("//! x\n// {TO_DO}: later\n")).starts_with("line 2: "));
        assert_eq!(check(&format!("//! x\n// {TO_DO}(ada): later\n")), "");
        let read = "//! x\nfn f(t: &Tensor) { t.double_value(&[]); }\n";
        assert_eq!(check(read), "");
        let sensitive = |text: &str| violations("crates/irepair-sensitivity/src/x.rs", text).len();
        assert_eq!((sensitive(read), sensitive(&read.replace("fn f", "#[cfg(test)]\nfn f"))), (1, 0));
    }

    #[test]
    fn other_files_are_checked_for_words_only() {
        assert!(violations("README.md", "# No head\n").is_empty());
        let path = format!("see {}me/x", MACHINE_PATHS[0]);
        assert_eq!(violations("README.md", &path).len(), 1);
    }
}
