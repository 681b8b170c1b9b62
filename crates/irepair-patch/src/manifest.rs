//! The metadata of a patch, read from strings and written as strings.

use std::collections::{BTreeMap, HashMap};

use irepair_core::fs::sha256_hex;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rows::Walk;
use crate::{Kind, Rows};

/// Value of metadata key `format`.
pub(crate) const FORMAT: &str = "irepair-patch";
/// Values of metadata key `format_version`: of patches of whole tensors, and of those that hold rows of some.
const VERSIONS: [&str; 2] = ["1", "2"];

/// Where a change came from. It is not needed to apply or revert a patch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Provenance {
    /// Method, such as `irepair`.
    pub method: Option<String>,
    /// Slicing policy, such as `dynamic`.
    pub policy: Option<String>,
    /// SHA-256 of the settings file in effect, in hexadecimal.
    pub config_sha256: Option<String>,
    /// Seed of the run.
    pub seed: Option<u64>,
    /// Blocks the run ever chose, sorted.
    pub blocks: Option<Vec<usize>>,
    /// Units below the block that the run ever chose, as settings write them.
    pub units: Option<String>,
    /// Metrics of the base, as JSON.
    pub metrics_before: Option<Value>,
    /// Metrics of the result, as JSON.
    pub metrics_after: Option<Value>,
    /// Id of the patch that led to the base.
    pub parent: Option<String>,
    /// Ids of the patches this one was composed of, in order.
    pub composed_of: Option<Vec<String>>,
}

/// One tensor of the base model, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Type in the model.
    pub dtype: Dtype,
    /// Shape in the model.
    pub shape: Vec<usize>,
    /// SHA-256 of its bytes in the base, in hexadecimal.
    pub base: String,
    /// SHA-256 of its bytes in the result; none for a tensor the patch leaves alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The rows or columns that change, where the patch holds these alone; kind `xor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
}

impl Record {
    /// The hash on one side.
    pub fn hash(&self, side: Side) -> &str {
        match side {
            Side::Base => &self.base,
            Side::Result => self.result.as_ref().unwrap_or(&self.base),
        }
    }

    /// The shape of what a patch holds of it when it changes.
    pub fn stored_shape(&self) -> Vec<usize> {
        self.rows.as_ref().map_or_else(|| self.shape.clone(), |rows| rows.shape(&self.shape))
    }

    /// The way through its bytes that tells those that are held; none where all are.
    pub(crate) fn walk(&self) -> Option<Walk> {
        self.rows.as_ref().map(|rows| rows.walk(self.dtype, &self.shape))
    }
}

/// One of the two models of a patch: the one it is made for, and the one it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The model before.
    Base,
    /// The model after.
    Result,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Base => Self::Result,
            Self::Result => Self::Base,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Base { "base" } else { "result" })
    }
}

/// The metadata of a patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What is stored per tensor.
    pub kind: Kind,
    /// Every tensor of the base model, by name.
    pub tensors: BTreeMap<String, Record>,
    /// Where the change came from.
    pub provenance: Provenance,
}

/// A key and what is wrong with it.
pub(crate) type Wrong = (&'static str, String);

impl Manifest {
    /// Id of the model on one side: SHA-256 of the compact JSON object that maps each tensor name, in order, to
    /// `[type, shape, hash]`. It does not depend on how tensors are spread over files.
    pub fn model_id(&self, side: Side) -> String {
        let entry = |(name, record): (&String, &Record)| {
            (name.clone(), json!([format!("{:?}", record.dtype), record.shape, record.hash(side)]))
        };
        let map: serde_json::Map<String, Value> = self.tensors.iter().map(entry).collect();
        sha256_hex(Value::Object(map).to_string().as_bytes())
    }

    /// The changed tensors, by name.
    pub fn changed(&self) -> impl Iterator<Item = (&String, &Record)> {
        self.tensors.iter().filter(|(_, record)| record.result.is_some())
    }

    /// Weights that the patch holds.
    pub fn n_weights(&self) -> u64 {
        self.changed().map(|(_, record)| record.stored_shape().iter().map(|n| *n as u64).product::<u64>()).sum()
    }

    fn version(&self) -> &'static str {
        VERSIONS[usize::from(self.tensors.values().any(|record| record.rows.is_some()))]
    }

    /// As the string metadata of a safetensors file.
    pub(crate) fn to_metadata(&self) -> BTreeMap<String, String> {
        let p = &self.provenance;
        let text = |value: &Option<String>| value.clone();
        let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        let pairs = [
            ("format", Some(FORMAT.to_owned())),
            ("format_version", Some(self.version().to_owned())),
            ("kind", Some(self.kind.to_string())),
            ("base_id", Some(self.model_id(Side::Base))),
            ("result_id", Some(self.model_id(Side::Result))),
            ("tensors", Some(json!(self.tensors).to_string())),
            ("method", text(&p.method)),
            ("policy", text(&p.policy)),
            ("config_sha256", text(&p.config_sha256)),
            ("seed", p.seed.map(|seed| seed.to_string())),
            ("blocks", p.blocks.as_ref().map(|blocks| json!(blocks).to_string())),
            ("units", text(&p.units)),
            ("metrics_before", json(&p.metrics_before)),
            ("metrics_after", json(&p.metrics_after)),
            ("parent", text(&p.parent)),
            ("composed_of", p.composed_of.as_ref().map(|ids| json!(ids).to_string())),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// From the metadata of a file that is a patch; the tensors in the file are not looked at.
    ///
    /// # Errors
    /// The first key that is missing or wrong.
    pub(crate) fn from_metadata(found: &HashMap<String, String>) -> Result<Self, Wrong> {
        fn parse<T: for<'a> Deserialize<'a>>(
            found: &HashMap<String, String>,
            key: &'static str,
        ) -> Result<Option<T>, Wrong> {
            let value = found.get(key).map(|text| serde_json::from_str(text).map_err(|e| (key, e.to_string())));
            value.transpose()
        }
        let text = |key: &str| found.get(key).cloned();
        let needed = |key: &'static str| text(key).ok_or_else(|| (key, "it is missing".to_owned()));
        let version = needed("format_version")?;
        if !VERSIONS.contains(&version.as_str()) {
            let (version, known) = (irepair_core::printable(&version), VERSIONS.join(" or "));
            return Err(("format_version", format!("version {version} is not {known}")));
        }
        let kind: Kind = needed("kind")?.parse().map_err(|why| ("kind", why))?;
        let tensors: BTreeMap<String, Record> =
            parse(found, "tensors")?.ok_or_else(|| ("tensors", "it is missing".to_owned()))?;
        for (name, record) in &tensors {
            if !is_hash(&record.base) || record.result.as_ref().is_some_and(|hash| !is_hash(hash)) {
                let name = irepair_core::printable(name);
                return Err(("tensors", format!("a hash of `{name}` is not 64 lower-case hexadecimal digits")));
            }
            let fault = record.rows.as_ref().and_then(|rows| match (kind, &record.result) {
                (Kind::Xor, Some(_)) => rows.fault(record.dtype, &record.shape),
                (Kind::Replace | Kind::Delta, _) => Some(format!("has rows in a patch of kind {kind}")),
                (Kind::Xor, None) => Some("has rows that change, and is not changed".to_owned()),
            });
            if let Some(fault) = fault {
                return Err(("tensors", format!("tensor `{}` {fault}", irepair_core::printable(name))));
            }
        }
        if version == VERSIONS[0] && tensors.values().any(|record| record.rows.is_some()) {
            return Err(("format_version", "a patch of version 1 holds whole tensors, and this one rows".to_owned()));
        }
        let provenance = Provenance {
            method: text("method"),
            policy: text("policy"),
            config_sha256: text("config_sha256"),
            seed: parse(found, "seed")?,
            blocks: parse(found, "blocks")?,
            units: text("units"),
            metrics_before: parse(found, "metrics_before")?,
            metrics_after: parse(found, "metrics_after")?,
            parent: text("parent"),
            composed_of: parse(found, "composed_of")?,
        };
        let manifest = Self { kind, tensors, provenance };
        for (key, side) in [("base_id", Side::Base), ("result_id", Side::Result)] {
            if needed(key)? != manifest.model_id(side) {
                return Err((key, "it is not the hash of the tensors listed".to_owned()));
            }
        }
        Ok(manifest)
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let record = |result: Option<char>| Record {
            dtype: Dtype::F32,
            shape: vec![2, 3],
            base: "a".repeat(64),
            result: result.map(|c| c.to_string().repeat(64)),
            rows: None,
        };
        Manifest {
            kind: Kind::Xor,
            tensors: BTreeMap::from([("h.0.w".to_owned(), record(Some('b'))), ("wte".to_owned(), record(None))]),
            provenance: Provenance {
                seed: Some(u64::MAX),
                blocks: Some(vec![0]),
                metrics_after: Some(json!({"tox": 0.1})),
                ..Default::default()
            },
        }
    }

    #[test]
    fn metadata_reads_back() {
        let metadata: HashMap<_, _> = manifest().to_metadata().into_iter().collect();
        assert_eq!(Manifest::from_metadata(&metadata).unwrap(), manifest());
        assert_eq!((metadata["format_version"].as_str(), manifest().n_weights()), ("1", 6), "as it always was");
        let mut rows = manifest();
        rows.provenance.units = Some("0.head.1".to_owned());
        let ranges = vec![[0, 1], [2, 3]];
        rows.tensors.entry("h.0.w".to_owned()).and_modify(|record| record.rows = Some(Rows { dim: 1, ranges }));
        let metadata: HashMap<_, _> = rows.to_metadata().into_iter().collect();
        assert_eq!((metadata["format_version"].as_str(), rows.n_weights()), ("2", 4));
        assert_eq!(Manifest::from_metadata(&metadata).unwrap(), rows);
        assert_eq!(rows.model_id(Side::Result), manifest().model_id(Side::Result), "rows are no part of a model");
    }

    #[test]
    fn a_wrong_key_is_named() {
        let break_key = |key: &str, value: Option<&str>| {
            let mut metadata: HashMap<_, _> = manifest().to_metadata().into_iter().collect();
            match value {
                Some(value) => metadata.insert(key.to_owned(), value.to_owned()),
                None => metadata.remove(key),
            };
            let (key, reason) = Manifest::from_metadata(&metadata).unwrap_err();
            format!("{key}: {reason}")
        };
        assert_eq!(break_key("kind", Some("zip")), "kind: `zip` is not replace, xor or delta");
        assert_eq!(break_key("format_version", Some("3")), "format_version: version 3 is not 1 or 2");
        assert_eq!(break_key("base_id", None), "base_id: it is missing");
        assert_eq!(break_key("result_id", Some("x")), "result_id: it is not the hash of the tensors listed");
        assert!(break_key("tensors", Some("[1")).starts_with("tensors: "));
        assert!(break_key("tensors", Some(r#"{"x":{"dtype":"F32","shape":[-1],"base":""}}"#)).starts_with("tensors: "));
        assert_eq!(
            break_key("tensors", Some(r#"{"x":{"dtype":"F32","shape":[1],"base":"../../etc"}}"#)),
            "tensors: a hash of `x` is not 64 lower-case hexadecimal digits"
        );
        let with_rows = |kind: &str, record: &str| {
            let mut metadata: HashMap<_, _> = manifest().to_metadata().into_iter().collect();
            let hash = "a".repeat(64);
            let tensors = format!(r#"{{"x":{{"dtype":"F32","shape":[2,3],"base":"{hash}"{record}}}}}"#);
            metadata.insert("tensors".to_owned(), tensors);
            metadata.insert("kind".to_owned(), kind.to_owned());
            Manifest::from_metadata(&metadata).unwrap_err().1
        };
        let changed = format!(r#","result":"{}""#, "b".repeat(64));
        let rows = |rows: &str| format!(r#"{changed},"rows":{rows}"#);
        assert_eq!(
            with_rows("xor", &rows(r#"{"dim":1,"ranges":[[0,4]]}"#)),
            "tensor `x` lists rows that are no ranges in order below 3"
        );
        assert_eq!(
            with_rows("replace", &rows(r#"{"dim":0,"ranges":[[0,1]]}"#)),
            "tensor `x` has rows in a patch of kind replace"
        );
        assert_eq!(
            with_rows("xor", &rows(r#"{"dim":1,"ranges":[[0,2]]}"#)),
            "a patch of version 1 holds whole tensors, and this one rows"
        );
        assert_eq!(
            with_rows("xor", r#","rows":{"dim":0,"ranges":[[0,1]]}"#),
            "tensor `x` has rows that change, and is not changed"
        );
        assert!(break_key("seed", Some("-1")).starts_with("seed: "));
        assert!(break_key("metrics_after", Some(&"[".repeat(100_000))).starts_with("metrics_after: recursion limit"));
    }
}
