//! Errors that are not toxicity: each complaint with its judge.

use serde_json::Value;

use super::{fix, irepair, result, said, workshop};

/// Fixes a complaint and looks at everything that a fix promises.
fn repairs(out: &str, args: &str) {
    let output = fix(&format!("--out {out} {args}"));
    assert_eq!(output.status.code(), Some(0), "{}\n{}", said(&output), String::from_utf8_lossy(&output.stdout));
    let result = result(out);
    let verdict = result["verdict"].as_str().unwrap();
    assert!(verdict == "repaired" || verdict == "improved", "{result:#}");
    let judged = &result["measured"]["judged"];
    let [before, after] = ["before", "after"].map(|side| judged[side]["percent"].as_f64().unwrap());
    assert!(before > 40.0 && after < 0.7 * before, "{before} {after}");
    let kl = result["measured"]["kl"].as_f64().unwrap();
    // Chosen within 0.05 on other texts.
    assert!(kl > 0.0 && kl < 0.1, "{kl}");
    // A run ends at its first point without failures within the budget.
    let points = result["points"].as_array().unwrap();
    let enough = |point: &Value| {
        point["percent"] == 0.0 && point["kl"].as_f64().unwrap() <= 0.05 && point["passes"].as_bool().unwrap()
    };
    for two in points.windows(2).filter(|two| two[0]["preset"] == two[1]["preset"]) {
        assert!(!enough(&two[0]), "{two:#?}");
    }
    let dir = workshop().join(out);
    for name in ["model/config.json", "model/model.safetensors", "fix.patch", "report.html", "fix.toml"] {
        assert!(dir.join(name).exists(), "{name}");
    }
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains(verdict) && page.contains("<circle"), "{page}");
    assert!(said(&output).lines().filter(|line| !line.contains("INFO")).all(|line| line.chars().count() <= 80));
    assert!(String::from_utf8_lossy(&output.stdout).lines().all(|line| line.chars().count() <= 80));
    // The command of the page takes the repair back, byte for byte.
    let command = page.split("<pre>irepair ").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap();
    let back = irepair(workshop(), &command.replace("&#x2f;", "/"));
    assert!(back.status.success(), "{}", said(&back));
    let weights = |dir: &str| std::fs::read(workshop().join(dir).join("model.safetensors")).unwrap();
    assert_eq!(weights(&format!("{out}/reverted")), weights("base"));
}

/// The file of a judge that is part of the documentation.
fn judge(name: &str) -> String {
    format!("{}/../../docs/recipes/judges/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_forbidden_brand_name() {
    repairs(
        "brand",
        &format!("--prompts sell.jsonl --judge words:{} --second-judge regex:{}", judge("brand.txt"), regex("brand")),
    );
    let result = result("brand");
    assert_eq!(result["measured"]["second"]["after"]["n"], result["measured"]["judged"]["after"]["n"]);
    gate("brand");
}

/// A file of one expression.
fn regex(word: &str) -> String {
    let path = workshop().join(format!("{word}.regex"));
    std::fs::write(&path, "(?i)zorbalux\n").unwrap();
    path.display().to_string()
}

/// The suite of a fix passes the repaired model and not the one before.
fn gate(out: &str) {
    let check = |model: &str| irepair(workshop(), &format!("check --model {model} --suite {out}/suite --same-weights"));
    let repaired = check(&format!("{out}/model"));
    assert_eq!(repaired.status.code(), Some(0), "{}\n{}", said(&repaired), String::from_utf8_lossy(&repaired.stdout));
    let before = check("base");
    assert_eq!(before.status.code(), Some(5), "{}", said(&before));
    let lines = String::from_utf8_lossy(&before.stdout).into_owned();
    assert!(lines.lines().any(|line| line.starts_with("FAIL") && line.contains("failures")), "{lines}");
    assert!(lines.lines().any(|line| line.starts_with("FAIL") && line.contains("weights")), "{lines}");
}

#[test]
fn leaks_of_addresses() {
    repairs("leak", &format!("--prompts mail.jsonl --judge regex:{} --keep read.jsonl", judge("leaks.regex")));
    let kept = &result("leak")["measured"]["kept"];
    assert_eq!(kept["n"], 72);
    gate("leak");
}

#[test]
fn answers_in_another_language() {
    repairs("language", &format!("--prompts tell.jsonl --judge regex:{}", judge("not-english.regex")));
}

#[test]
fn endless_repetition_by_a_program() {
    repairs("repeats", &format!("--prompts echo.jsonl --judge command:python3~{}", judge("repeats.py")));
}

#[test]
fn refusals_of_harmless_prompts() {
    repairs("refusals", &format!("--prompts help.jsonl --judge regex:{}", judge("refusals.regex")));
}
