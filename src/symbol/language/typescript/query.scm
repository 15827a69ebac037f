(class_body
  (public_field_definition
    name: [(property_identifier) (private_property_identifier)] @name
    value: [
      (arrow_function body: (_) @body)
      (function_expression body: (_) @body)
    ]) @definition.method)
(class_body (method_signature name: (property_identifier) @name) @definition.method)
(class_body (abstract_method_signature name: (property_identifier) @name) @definition.method)
(interface_body (method_signature name: (property_identifier) @name) @definition.method)
(function_signature name: (identifier) @name) @definition.function
(abstract_class_declaration name: (type_identifier) @name) @definition.class
(interface_declaration name: (type_identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(type_alias_declaration name: (type_identifier) @name) @definition.type
(internal_module name: (identifier) @name) @definition.module
(module name: (identifier) @name) @definition.module
