import React from "react";

interface Props {
  names: string[];
}

const Item = ({ name }: { name: string }) => <li>{greet(name)}</li>;

export class List extends React.Component<Props> {
  render() {
    return (
      <ul>
        {this.props.names.map((name) => (
          <Item key={name} name={name} />
        ))}
      </ul>
    );
  }
}

export function Page(props: Props) {
  const [names, setNames] = React.useState<string[]>(props.names);
  return <List names={names} />;
}
