//! Names of the hub in settings become paths of its cache on this machine, before anything is read.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use irepair_config::{
    CheckPlan, EvalPlan, FixPlan, GeneratePlan, GradePlan, PairsPlan, PlantPlan, RelearnPlan, RepairPlan, ScorePlan,
    ScorerApplyPlan, ScorerEvalPlan, ScorerTrainPlan, SensitivityPlan,
};
use irepair_core::hub::{data_file, model_dir};

/// Settings with models, and with files of pairs and prompts.
pub(crate) trait Locate: Sized {
    /// The places that hold a model.
    fn models(&mut self) -> Vec<&mut PathBuf>;

    /// The places that hold pairs or prompts.
    fn records(&mut self) -> Vec<&mut PathBuf>;

    /// The same settings, every name replaced by the path that it stands for, which is said on stderr.
    fn located(mut self) -> anyhow::Result<Self> {
        for place in self.models() {
            replace(place, model_dir)?;
        }
        for place in self.records() {
            replace(place, data_file)?;
        }
        Ok(self)
    }
}

/// Replaces the names of models by their directories.
pub(crate) fn models<'a>(places: impl IntoIterator<Item = &'a mut PathBuf>) -> anyhow::Result<()> {
    places.into_iter().try_for_each(|place| replace(place, model_dir))
}

/// The path of a scorer: that which is given, or the directory of a classifier that is a name with an owner.
pub(crate) fn scorer(given: &Path) -> anyhow::Result<Cow<'_, Path>> {
    if given.exists() || given.components().count() != 2 {
        return Ok(Cow::Borrowed(given));
    }
    let mut path = given.to_owned();
    replace(&mut path, model_dir)?;
    Ok(Cow::Owned(path))
}

fn replace(place: &mut PathBuf, find: fn(&Path) -> irepair_core::Result<PathBuf>) -> anyhow::Result<()> {
    let found = find(place)?;
    if found != *place {
        tracing::info!("{}: {}", place.display(), found.display());
        *place = found;
    }
    Ok(())
}

/// Settings, their models, and their files.
macro_rules! locate {
    ($($plan:ident: [$($model:ident)*] [$($file:ident)*];)*) => { $(
        impl Locate for $plan {
            fn models(&mut self) -> Vec<&mut PathBuf> {
                #[allow(unused_mut, reason = "not every plan has models")]
                let mut places = Vec::new();
                $(places.extend(Places::all(&mut self.$model));)*
                places
            }

            fn records(&mut self) -> Vec<&mut PathBuf> {
                #[allow(unused_mut, reason = "not every plan has files")]
                let mut places = Vec::new();
                $(places.extend(Places::all(&mut self.$file));)*
                places
            }
        }
    )* };
}

locate! {
    RepairPlan: [model] [pairs utility];
    FixPlan: [model] [prompts pairs keep utility];
    SensitivityPlan: [model] [data neutral];
    EvalPlan: [model reference] [
        prompts clean_prompts more_prompts memorised pairs lambada blimp hellaswag f1 minimal_pairs kl_texts
    ];
    GeneratePlan: [model] [prompts];
    PairsPlan: [model] [prompts];
    RelearnPlan: [model] [prompts texts];
    ScorePlan: [model] [input];
    ScorerTrainPlan: [] [data];
    ScorerEvalPlan: [] [data];
    ScorerApplyPlan: [] [input];
    CheckPlan: [model] [];
    PlantPlan: [model] [data];
    GradePlan: [model] [];
}

/// A setting of one path, perhaps one, or several.
trait Places {
    fn all(&mut self) -> Vec<&mut PathBuf>;
}

impl Places for PathBuf {
    fn all(&mut self) -> Vec<&mut PathBuf> {
        vec![self]
    }
}

impl Places for Option<PathBuf> {
    fn all(&mut self) -> Vec<&mut PathBuf> {
        self.iter_mut().collect()
    }
}

impl Places for Option<Vec<PathBuf>> {
    fn all(&mut self) -> Vec<&mut PathBuf> {
        self.iter_mut().flatten().collect()
    }
}
