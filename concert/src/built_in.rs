//! The workers that come with Concert.

use concert_worker::Worker;
pub use {
    concert_annotation as annotation, concert_focus_stats as focus_stats,
    concert_library as library, concert_likert_survey as likert_survey, concert_profile as profile,
    concert_sessioning as sessioning, concert_text_settings as text_settings,
};

/// All built-in workers.
pub fn workers() -> [Worker; 7] {
    [
        profile::worker(),
        sessioning::worker(),
        library::worker(),
        focus_stats::worker(),
        text_settings::worker(),
        annotation::worker(),
        likert_survey::worker(),
    ]
}
