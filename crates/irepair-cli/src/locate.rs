//! Names of the hub in settings become paths of its cache on this machine, before anything is read.

use std::path::PathBuf;

use irepair_config::{
    CheckPlan, EvalPlan, FixPlan, GeneratePlan, PairsPlan, RelearnPlan, RepairPlan, ScorePlan, SensitivityPlan,
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

fn replace(place: &mut PathBuf, find: fn(&std::path::Path) -> irepair_core::Result<PathBuf>) -> anyhow::Result<()> {
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
    RepairPlan: [model] [pairs];
    FixPlan: [model] [prompts pairs keep];
    SensitivityPlan: [model] [data];
    EvalPlan: [model reference] [prompts clean_prompts more_prompts memorised pairs];
    GeneratePlan: [model] [prompts];
    PairsPlan: [model] [prompts];
    RelearnPlan: [model] [prompts];
    ScorePlan: [model] [];
    CheckPlan: [model] [];
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
