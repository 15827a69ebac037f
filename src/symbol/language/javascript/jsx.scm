; A component that is used.
((jsx_opening_element name: (identifier) @reference) (#match? @reference "^[A-Z]"))
((jsx_self_closing_element name: (identifier) @reference) (#match? @reference "^[A-Z]"))
(jsx_opening_element
  name: (member_expression object: (_) @qualifier property: (property_identifier) @reference))
(jsx_self_closing_element
  name: (member_expression object: (_) @qualifier property: (property_identifier) @reference))
