//! Errors of the command line itself; those of the libraries stand in the libraries.

use std::path::PathBuf;

use irepair_config::Judge;
use irepair_core::Diagnostic;

irepair_core::errors! {
    /// An error of the command line itself.
    pub(crate) enum CliError {
        /// A tokenizer that gives ids the model has no embedding for.
        Vocabulary { path: PathBuf, n_model: usize, token: String, id: u32 } = "tokenizer and model do not fit together" =>
            Data.at(path.display())
                .want_got(format!("token ids below {n_model}"), format!("token {token:?} with id {id}"))
                .help("put the tokenizer of this checkpoint into its directory");
        /// An end token that the model has no embedding for.
        EndToken { path: PathBuf, id: u32, n_model: usize } = "end token is outside the model's vocabulary" =>
            Data.at_part(path, "key", "eos_token_id").want_got(format!("an id below {n_model}"), id)
                .help("correct it in generation_config.json or, without that file, in config.json");
        /// `what` lacks `want`.
        Missing { what: String, want: String } = "{what} is not complete" => Usage.help(format!("give {want}"));
        /// A file to leave out that the profile does not have.
        NotInProfile { file: String } = "the profile has no such file" =>
            Usage.at(format!("--skip {file}")).help("give a name that stands behind `file` in the profile");
        /// A place to write to that already holds something.
        OutExists { path: PathBuf } = "output is there already" =>
            Usage.at(path.display()).help("give a path where nothing is: existing files are never overwritten");
        /// A directory to write to that holds the file `found`.
        OutNotEmpty { path: PathBuf, found: String } = "output directory is not empty" =>
            Usage.at(path.join(found).display())
                .want_got("a new or empty directory, or that of this run when it was stopped", "a finished run, or files of something else")
                .help("give another --out: existing files are never overwritten");
        /// Pairs in which no loss that compares the two sides finds a difference.
        AllSame { path: PathBuf, n: usize } = "chosen and rejected are the same tokens in every pair" =>
            Data.at(path.display())
                .want_got("pairs whose two sides differ", format!("{n} pairs of twice the same"))
                .help("a loss that compares the two sides learns nothing of them; sides that differ only behind \
                       --max-continuation are the same too");
        /// A repair after which the model is what it was.
        Unchanged { out: PathBuf, why: &'static str } = "nothing is repaired: the weights are those before" =>
            Unchanged.at(out.display()).help(why);
        /// A pipe where a file is read twice, once for its hash.
        ReadTwice { path: PathBuf } = "file is read twice, and a pipe holds its text once" =>
            Usage.at(path.display()).help("write it to an ordinary file, and give that: its SHA-256 is recorded, and then it is read");
        /// A text of a file that does not fit the model.
        TooLong { place: String, n_positions: usize, got: usize, help: &'static str } =
            "text is longer than the model's context" =>
            Data.at(place).want_got(format!("at most {n_positions} positions"), got).help(help);
        /// A soft prefix that leaves no room for a text.
        LongPrefix { n_positions: usize, got: usize } = "soft prefix leaves no room for a text" =>
            Usage.want_got(format!("at most {} vectors, for a context of {n_positions}", n_positions.saturating_sub(2)), got)
                .help("give a smaller --soft-prefix (`soft_prefix`): its vectors take positions of the context");
        /// The weights of an adapter alone.
        Adapter { path: PathBuf } = "directory holds an adapter, not a model" =>
            Data.at(path.display()).help(
                "merge it into its base model and save that: in Python, \
                 PeftModel.from_pretrained(base, DIR).merge_and_unload().save_pretrained(NEW_DIR)"
            );
        /// The vectors of a soft prefix alone.
        SoftPrefix { path: PathBuf, base: String } = "directory holds a soft prefix, not a model" =>
            Data.at(path.display()).help(format!(
                "it is vectors in front of every text of its base model{base}, which is unchanged, and cannot be merged into \
                 weights: `repair` measures it while it trains, and in Python PeftModel.from_pretrained(base, DIR) runs it"
            ));
        /// A model with an adapter in its directory.
        AdapterBeside { path: PathBuf } = "directory holds a model and an adapter for it" =>
            Data.at(path.display()).help(
                "transformers applies the adapter to the model, irepair does not: merge it and save that, or take both files of \
                 the adapter out of the directory"
            );
        /// A measurement of nothing.
        NothingToMeasure = "nothing is to be measured" =>
            Usage.help("name what the model is measured on, such as --prompts, --wikitext or --pairs, or a --reference to compare with");
        /// The text of that index has no likelihood.
        NoNumber { path: PathBuf, index: usize } = "negative log-likelihood is not finite" =>
            Outcome.at(format!("{}, text {index}", path.display()))
                .help("the weights are so large that numbers overflow: their training diverged, or the file is damaged");
        /// A patch lists the files of the output directory, and cannot be one of them.
        PatchInside { path: PathBuf } = "patch file is inside the output directory" =>
            Usage.at(path.display()).help("give --patch a file outside the --out directory");
        /// No text is left to train on.
        TooFew { what: &'static str, path: PathBuf, n_held_out: usize, n: usize, n_empty: usize } = "too few {what}" =>
            Data.at(path.display()).want_got(format!("more than the {n_held_out} held out for validation"), match n_empty {
                0 => n.to_string(),
                empty => format!("{n}; {empty} others are left out, because a continuation of them is empty"),
            })
                .help("give more of them, or hold out fewer with --n-validation");
        /// A file that holds less than `option` asks for.
        TooLittle { path: PathBuf, option: &'static str, want: String, got: String, help: &'static str } =
            "file holds too little for {option}" => Data.at(path.display()).want_got(want, got).help(help);
        /// Labelled texts from which no word list can be made.
        NoWords { path: PathBuf } = "no word occurs in enough toxic texts" =>
            Data.at(path.display()).help("give more labelled texts: a word list is made of words that toxic texts share");
        /// A path that is no scorer.
        NoScorer { path: PathBuf } = "scorer is not a word list, a linear scorer or a classifier directory" =>
            Data.at(path.display()).help(
                "give a `.txt` word list, a file of `irepair scorer train`, or a Hugging Face directory with `config.json`"
            );
        /// A word list of which no entry can match.
        NothingMatches { path: PathBuf, n: usize } = "no entry of the word list can match" =>
            Data.at(path.display()).want_got("words", format!("a space or punctuation in {n} of {n}"))
                .help("a text is compared word by word: give phrases as regular expressions, a line each, with regex:FILE");
        /// A judge whose file or directory is not there.
        NoJudge { judge: Judge } = "the file of the judge is not there" =>
            Usage.at(judge).help(format!("give a file that is there; the kinds of judges are {}", Judge::KINDS));
        /// Clauses of a suite that the model does not keep.
        Regressed { suite: PathBuf, n_failed: usize, n: usize } = "{n_failed} of {n} clauses fail" =>
            Outcome.at(suite.display()).help(
                "the error is back, or something else got worse: read the lines marked FAIL; a patch repairs only the base \
                 that it was made of"
            );
        /// A clause for which too many answers have no score.
        NotJudged { clause: String, n_missing: usize, n: usize, why: String } =
            "{n_missing} of {n} answers have no score: {why}" =>
            Data.at(format!("clause {clause:?}")).want_got("scores of 99 % of the answers", format!("{} of {n}", n - n_missing))
                .help("nothing can be said of the model: repair the judge, then run the check again");
        /// A line of the answers of a suite that is JSON of another form.
        BadAnswer { path: PathBuf, line: usize, why: String } = "line of answers cannot be read: {why}" =>
            Data.at(format!("{}, line {line}", path.display()))
                .help("write a JSON object a line, {\"prompt\": \"...\", \"answer\": \"...\"}, each key once");
        /// Texts of which a scorer scores none.
        NothingScored { path: PathBuf, n: usize, why: String } = "no text has a score: {why}" =>
            Data.at(path.display()).want_got("a score of some texts", format!("none of {n}"))
                .help("give texts that the scorer can judge, or another --scorer");
        /// A scorer that was given twice.
        SameScorer { name: String } = "two scorers have one name" => Usage.at(name).help("give each scorer once");
        /// Two sets of prompts whose numbers would have one name.
        SamePrompts { name: String } = "two files of --more-prompts have one name up to the first dot" =>
            Usage.at(name).help("rename one: a set of prompts is called after its file");
        /// A signal ended the run; `state` holds what it needs to continue.
        Interrupted { state: PathBuf, n_done: u64, n_steps: u64 } = "interrupted after step {n_done} of {n_steps}" =>
            Interrupted.at(state.display())
                .help("nothing is lost: run the same command again to continue from this state");
        /// The engine `found` numbers that are not finite; `dump` holds the texts of the step.
        NotFinite { found: Box<Diagnostic>, dump: PathBuf, state: Option<PathBuf> } = "{}", found.what =>
            ((**found).clone().help(format!(
                "read the texts of that step in {}, then run again with a lower --lr and another --out{}", dump.display(),
                state.as_ref().map_or(String::new(), |state| format!("; {} is the last good state", state.display()))
            )));
        /// A log that does not hold every step up to the checkpoint.
        BadLog { path: PathBuf, n_steps: u64, n_logged: usize } = "log does not hold every step up to the checkpoint" =>
            Data.at(path.display()).want_got(format!("{n_steps} steps"), n_logged).help(
                "the log was changed after the run was stopped: remove the output directory, then run the same command \
                 again to start from the first step"
            );
        /// A point of a stopped run that cannot be read.
        BadPoint { path: PathBuf, line: usize } = "this line is no point of a run" =>
            Data.at(format!("{}:{line}", path.display())).help(
                "the file was changed after the run was stopped: remove the output directory, then run the same command \
                 again to start from the first step"
            );
        /// A rendered prompt that would be cut.
        PromptsCut { path: PathBuf, longest: usize, prompt_tokens: usize } = "prompts of messages would be cut" =>
            Data.at(path.display()).want_got(format!("at most {prompt_tokens} tokens"), format!("{longest} in the longest"))
                .help(format!("give --prompt-tokens {longest}: the end of such a prompt begins the answer"));
        /// Texts in one file and message lists in another, of a model with a begin-of-text token.
        MixedKinds { path: PathBuf, lists: PathBuf } = "one file holds texts, and another message lists" =>
            Data.at(path.display()).want_got(format!("message lists, as in {}", lists.display()), "texts").help(
                "the begin-of-text token of this model stands before texts and inside rendered lists: give both as one or \
                 the other"
            );
        /// A model with `n` weights that are NaN or infinite, the first in this tensor.
        BadWeights { path: PathBuf, tensor: String, n: i64 } = "weights are not finite" =>
            Data.at(format!("{}: {tensor}", path.display()))
                .want_got("finite numbers", format!("{n} NaN or infinite"))
                .help("the checkpoint is damaged, or its training diverged: use an earlier one");
        /// A directory in which a fix of something else was begun.
        OtherFix { out: PathBuf, what: String } = "output directory holds a fix that was made of something else" =>
            Usage.at(out.display()).want_got("the same inputs and settings", format!("another `{what}`"))
                .help("give another --out, or the settings of before");
        /// A file of a fix that was begun, which is not what a fix writes.
        DamagedWork { path: PathBuf, why: String } = "file of an earlier run cannot be read: {why}" =>
            Data.at(path.display()).help("remove the file: what it holds is made again");
        /// A judge without a score for too many answers.
        JudgeFails { judge: String, n_missing: usize, n: usize, why: String } = "judge gives too few scores: {why}" =>
            Outcome.at(judge).want_got("at most 1 of 100 missing", format!("{n_missing} of {n} missing"))
                .help("correct the judge: a missing score is no answer that is fine");
        /// Prompts of which one part is empty.
        EmptyPart { path: PathBuf, part: &'static str, n: usize } = "too few prompts: none is left {part}" =>
            Data.at(path.display()).want_got("prompts for pairs, to choose on and to measure on", format!("{n} in all"))
                .help("give more prompts, or other --valid-share and --test-share");
        /// No pair to train on.
        NoPairs { why: String } = "no pair could be made of the model's own answers" =>
            Unchanged.want_got("a good and a bad answer to the same prompt", why.clone())
                .help("give --steer-chosen or --steer-rejected, more prompts, or --pairs of your own");
        /// A number that is not on the menu.
        NotOnMenu { n: usize, n_points: usize } = "--choose {n} is not on the menu" =>
            Usage.want_got(format!("1 to {n_points}"), n).help("the numbers stand in the table of points and in report.html");
        /// Nothing was gained; `out` holds the report, and `done` is what became of the model.
        NothingGained { out: PathBuf, done: &'static str } = "nothing gained: {done}" =>
            Unchanged.at(out.display())
                .help("report.html says what was tried; more prompts, a larger --budget-kl or --pairs of your own may help");
        /// No answer fails.
        NothingFails { n: usize } = "nothing fails: the judge objects to none of {n} answers" =>
            NothingFails.help("there is nothing to repair; give prompts on which the model goes wrong, or another judge");
        /// A number of ranks that is not the launcher's.
        OtherRanks { want: usize, got: usize } = "--ranks is not the number of ranks that the launcher started" =>
            Usage.want_got(want, got).help("leave --ranks out under torchrun and srun");
        /// A pipe, where several processes read a file.
        RanksPipe { path: PathBuf } = "several ranks cannot read a pipe" =>
            Usage.at(path.display()).help("each reads the file for itself: write it to disk");
        /// A rank could not be started.
        NoRank { what: String, why: String } = "ranks cannot be started, {what}: {why}" =>
            Bug.help("without --ranks one process repairs alone");
        /// The error of one rank among several, with its number.
        Shown { found: Box<Diagnostic> } = "{}", found.what => ((**found).clone());
        /// A run that does not fit into the memory there is.
        Memory { needed: String, free: String, instead: String } = "not enough memory" =>
            Device.want_got(format!("about {needed}"), format!("{free} free")).help(format!("use {instead}"));
    }
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let sampled = irepair_train::SampledIndices { pairs: vec![9, 2], utility: vec![] };
        let error =
            irepair_train::Error::NotFinite { what: "the loss is not finite".into(), step: 7, scope: None, sampled };
        let found = || Box::new(error.diagnostic());
        insta::assert_snapshot!(irepair_core::every_diagnostic!(CliError {
            Vocabulary: [CliError::Vocabulary { path: "gpt2".into(), n_model: 300, token: "<pad>".into(), id: 300 }],
            EndToken: [CliError::EndToken { path: "gpt2".into(), id: 50256, n_model: 512 }],
            NotInProfile: [CliError::NotInProfile { file: "corpus/train.txt".into() }],
            Missing: [CliError::Missing { what: "the profile".into(), want: "a [language] table".into() }],
            OutExists: [CliError::OutExists { path: "repaired".into() }],
            OutNotEmpty: [CliError::OutNotEmpty { path: "repaired".into(), found: "metrics.jsonl".into() }],
            AllSame: [CliError::AllSame { path: "pairs.jsonl".into(), n: 20 }],
            Unchanged: [CliError::Unchanged { out: "repaired".into(), why: "give a larger --lr" }],
            ReadTwice: [CliError::ReadTwice { path: "/dev/fd/63".into() }],
            TooLong: [CliError::TooLong {
                place: "texts.jsonl, line 3".into(),
                n_positions: 48,
                got: 121,
                help: "give --long window"
            }],
            LongPrefix: [CliError::LongPrefix { n_positions: 128, got: 65536 }],
            Adapter: [CliError::Adapter { path: "adapter/adapter_config.json".into() }],
            SoftPrefix: [CliError::SoftPrefix { path: "prefix/adapter_config.json".into(), base: " `gpt2`".into() }],
            AdapterBeside: [CliError::AdapterBeside { path: "model/adapter_config.json".into() }],
            NothingToMeasure: [CliError::NothingToMeasure],
            NoNumber: [CliError::NoNumber { path: "texts.jsonl".into(), index: 3 }],
            PatchInside: [CliError::PatchInside { path: "repaired/fix.patch".into() }],
            TooFew: [
                CliError::TooFew { what: "pairs", path: "pairs.jsonl".into(), n_held_out: 64, n: 64, n_empty: 0 },
                CliError::TooFew { what: "pairs", path: "pairs.jsonl".into(), n_held_out: 1, n: 1, n_empty: 19 },
            ],
            TooLittle: [CliError::TooLittle {
                path: "toxic.jsonl".into(),
                option: "--counts",
                want: "at least 1000 texts".into(),
                got: "12".into(),
                help: "give more texts, or smaller numbers"
            }],
            NoWords: [CliError::NoWords { path: "labels.jsonl".into() }],
            NoScorer: [CliError::NoScorer { path: "scorer.bin".into() }],
            NothingMatches: [CliError::NothingMatches { path: "phrases.txt".into(), n: 1 }],
            NoJudge: [CliError::NoJudge { judge: Judge::Regex("leaks.regex".into()) }],
            Regressed: [CliError::Regressed { suite: "suite".into(), n_failed: 1, n: 6 }],
            NotJudged: [CliError::NotJudged {
                clause: "insults".into(),
                n_missing: 12,
                n: 300,
                why: "the program gave no answer within 60s".into()
            }],
            BadAnswer: [CliError::BadAnswer {
                path: "suite/answers.jsonl".into(),
                line: 3,
                why: "missing field `answer` at column 15".into()
            }],
            NothingScored: [CliError::NothingScored {
                path: "texts.jsonl".into(),
                n: 20,
                why: "the scorer was trained on this text".into()
            }],
            SameScorer: [CliError::SameScorer { name: "words".into() }],
            SamePrompts: [CliError::SamePrompts { name: "toxic".into() }],
            Interrupted: [CliError::Interrupted { state: "out/state".into(), n_done: 3, n_steps: 400 }],
            BadLog: [CliError::BadLog { path: "out/metrics.jsonl".into(), n_steps: 8, n_logged: 6 }],
            BadPoint: [CliError::BadPoint { path: "out/trajectory.jsonl".into(), line: 3 }],
            NotFinite: [
                CliError::NotFinite {
                    found: found(),
                    dump: "out/not-finite.json".into(),
                    state: Some("out/state".into())
                },
                CliError::NotFinite { found: found(), dump: "out/not-finite.json".into(), state: None },
            ],
            OtherRanks: [CliError::OtherRanks { want: 2, got: 4 }],
            RanksPipe: [CliError::RanksPipe { path: "/dev/stdin".into() }],
            NoRank: [CliError::NoRank { what: "rank 1".into(), why: "no such file".into() }],
            Shown: [CliError::Shown { found: found() }],
            Memory: [CliError::Memory {
                needed: "2.00 GiB".into(),
                free: "1.00 GiB".into(),
                instead: "shorter texts".into()
            },],
            PromptsCut: [CliError::PromptsCut { path: "prompts.jsonl".into(), longest: 90, prompt_tokens: 32 }],
            MixedKinds: [CliError::MixedKinds { path: "pairs.jsonl".into(), lists: "prompts.jsonl".into() }],
            OtherFix: [CliError::OtherFix { out: "fixed".into(), what: "judge".into() }],
            DamagedWork: [CliError::DamagedWork { path: "fixed/search/plan.json".into(), why: "EOF at line 1".into() }],
            JudgeFails: [CliError::JudgeFails {
                judge: "command:j".into(),
                n_missing: 9,
                n: 90,
                why: "it gave no line".into()
            }],
            EmptyPart: [CliError::EmptyPart { path: "prompts.jsonl".into(), part: "to measure on", n: 3 }],
            NoPairs: [CliError::NoPairs { why: "12 prompts with good answers alone".into() }],
            NotOnMenu: [CliError::NotOnMenu { n: 9, n_points: 3 }],
            NothingGained: [CliError::NothingGained {
                out: "fixed/report.html".into(),
                done: "the model stays as it was"
            }],
            NothingFails: [CliError::NothingFails { n: 300 }],
            BadWeights: [CliError::BadWeights { path: "gpt2".into(), tensor: "h.3.ln_1.weight".into(), n: 2 }],
        }));
    }
}
