//! Answers of Prometheus' instant query API (`/api/v1/query`).

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

/// The one number of an answer: a scalar, or a vector with exactly one element. `NaN`, `+Inf` and
/// `-Inf` are numbers too (Prometheus documentation, "HTTP API").
///
/// # Errors
/// What there is instead, for people.
pub fn instant(body: &str) -> Result<f64, String> {
    let answer: Answer = serde_json::from_str(body)
        .map_err(|e| format!("the answer is not one of Prometheus: {e}"))?;
    if answer.status != "success" {
        let why = answer
            .error
            .unwrap_or_else(|| "without a reason".to_owned());
        return Err(format!("Prometheus refuses the query: {why}"));
    }
    let data = answer.data.ok_or("the answer has no data")?;
    let pair = match (data.kind.as_str(), &data.result) {
        ("scalar", pair) => pair,
        ("vector", Value::Array(elements)) => match &elements[..] {
            [] => return Err("the query finds no series".to_owned()),
            [one] => &one["value"],
            more => {
                return Err(format!(
                    "the query finds {} series: one is wanted, such as max(…)",
                    more.len()
                ));
            }
        },
        (kind, _) => return Err(format!("the query gives a {kind}, not one number")),
    };
    pair.get(1)
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| "the answer has no number where Prometheus puts it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: &str, result: &str) -> Result<f64, String> {
        instant(&format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":{result}}}}}"
        ))
    }

    #[test]
    fn one_number_is_read() {
        assert_eq!(answer("scalar", "[1435781430.781,\"7.5\"]"), Ok(7.5));
        assert_eq!(
            answer(
                "vector",
                "[{\"metric\":{\"job\":\"x\"},\"value\":[1.0,\"3\"]}]"
            ),
            Ok(3.0)
        );
        assert_eq!(answer("scalar", "[1,\"+Inf\"]"), Ok(f64::INFINITY));
        assert!(answer("scalar", "[1,\"NaN\"]").is_ok_and(f64::is_nan));
    }

    #[test]
    fn everything_else_is_told() {
        let one = "{\"metric\":{},\"value\":[1,\"3\"]}";
        for (result, says) in [
            (answer("vector", "[]"), "no series"),
            (answer("vector", &format!("[{one},{one}]")), "2 series"),
            (answer("matrix", "[]"), "matrix"),
            (answer("string", "[1,\"x\"]"), "string"),
            (answer("scalar", "[1]"), "no number"),
            (answer("scalar", "[1,\"x\"]"), "no number"),
            (instant("<html>"), "not one of Prometheus"),
            (
                instant(
                    "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error at char 3\"}",
                ),
                "parse error at char 3",
            ),
            (instant("{\"status\":\"success\"}"), "no data"),
        ] {
            let error = result.expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
