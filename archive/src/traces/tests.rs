use super::spans::time;
use super::*;

#[test]
fn work_spans_stay_within_the_action_for_any_reported_times() {
    let (queue, _spans) = mpsc::channel(1);
    let traces = Traces {
        args: TraceArgs { sampler: Sampler::AlwaysOn, ..TraceArgs::default() },
        scope: InstrumentationScope::builder("test").build(),
        queue,
        metrics: Metrics::new(),
    };
    let context = TraceContext { trace: TraceId::from_bytes([1; 16]), parent: None };
    for (took_us, at_us) in [(40, 10), (4000, 10), (40, u64::MAX), (u64::MAX, u64::MAX)] {
        let part = serde_json::json!({ "name": "mongodb.find", "at_us": at_us, "took_us": at_us });
        let action = serde_json::from_value(serde_json::json!({
            "id": "0af76519-16cd-43dd-8448-eb211c80319c", "concept": "A", "action": "b", "state": "completed",
            "asked_us": 1000, "completed_us": 1100, "work": { "took_us": took_us, "parts": [part] },
        }));
        let spans = traces.of_work(&context, &action.unwrap());
        assert_eq!(spans.len(), 2);
        for span in spans {
            assert!(
                time(1000) <= span.start_time
                    && span.start_time <= span.end_time
                    && span.end_time <= time(1100)
            );
        }
    }
}

#[test]
fn requests_of_one_millisecond_have_different_span_ids() {
    // A clock and a counter determine the first halves, which are equal within a millisecond.
    let ids = ["019a2198-7f8f-7353-8484-dfc82444fd2b", "019a2198-7f8f-7353-8485-0c1d2e3f4a5b"];
    let [one, other] = ids.map(|id| spans::span_id(id).unwrap());
    assert_ne!(one, other);
    assert_ne!(spans::part_id(ids[0], 0).unwrap(), one);
}
