//! Errors that are not toxicity: each complaint with its judge.

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
    assert!(before > 40.0 && after < 0.5 * before, "{before} {after}");
    let kl = result["measured"]["kl"].as_f64().unwrap();
    // Chosen within 0.05 on other texts.
    assert!(kl > 0.0 && kl < 0.1, "{kl}");
    let dir = workshop().join(out);
    for name in ["model/config.json", "model/model.safetensors", "fix.patch", "report.html", "fix.toml"] {
        assert!(dir.join(name).exists(), "{name}");
    }
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains(verdict) && page.contains("<circle"), "{page}");
    assert!(said(&output).lines().filter(|line| !line.contains("INFO")).all(|line| line.chars().count() <= 80));
    // The patch takes the repair back, byte for byte.
    let back =
        irepair(workshop(), &format!("patch revert --patch {out}/fix.patch --model {out}/model --out {out}-reverted"));
    assert!(back.status.success(), "{}", said(&back));
    let weights = |dir: &str| std::fs::read(workshop().join(dir).join("model.safetensors")).unwrap();
    assert_eq!(weights(&format!("{out}-reverted")), weights("base"));
}

#[test]
fn a_forbidden_brand_name() {
    repairs("brand", "--prompts sell.jsonl --judge brand.txt");
}
