use super::tests::heard;
use crate::fuzz::fuzz;

#[test]
fn no_messages_do_harm_however_they_are_split() {
    fuzz("websocket", |input, pieces| assert_eq!(heard(input, pieces), heard(input, &[])));
}
